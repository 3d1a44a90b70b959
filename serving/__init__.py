"""Serving: replicas, gateway and the production pointer; no Dagster inside."""
