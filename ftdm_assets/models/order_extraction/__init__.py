"""The data of the domain model `order_extraction`: schema, golden set, orders and their maker."""
