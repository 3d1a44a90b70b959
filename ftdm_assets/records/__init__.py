"""Pure functions on tables of records: contract, cleaning, agreement, label errors, the mix."""
