"""Registries: they count versions and keep what is registered."""
