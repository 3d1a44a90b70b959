"""Serving: replicas, router, gateway and the production pointer; no Dagster inside."""
