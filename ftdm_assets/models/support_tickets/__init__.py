"""The data of the domain model `support_tickets`: taxonomy, golden set, tickets and their maker."""
