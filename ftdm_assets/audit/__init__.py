"""Audit: questions that are answered from the evidence alone."""
