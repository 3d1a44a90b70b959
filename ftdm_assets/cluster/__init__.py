"""A Kubernetes cluster, for whoever uses one: training and serving. It imports none of them."""
