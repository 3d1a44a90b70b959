"""Versions on a Kubernetes cluster: objects as data, and the platform that applies them."""
