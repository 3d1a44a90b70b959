"""Golden sets and their harness: examples, metrics, statistics, asking an endpoint."""
