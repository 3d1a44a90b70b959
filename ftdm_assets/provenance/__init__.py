"""Digests, manifests, verdicts, the artifact store and the gate: the evidence, without Dagster."""
