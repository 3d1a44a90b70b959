"""Makes ``pytest golden`` run a golden set; the project's own tests never load this folder."""

from golden.pytest_plugin import (
    golden_sitting,
    pytest_addoption,
    pytest_configure,
    pytest_generate_tests,
    pytest_terminal_summary,
)

__all__ = [
    "golden_sitting",
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_terminal_summary",
]
