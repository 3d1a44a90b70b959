"""One folder a domain model: its ``defs.yaml`` and its data."""
