"""Tests of the GPU steps."""
