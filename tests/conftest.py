"""Which tests may run beside others."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs real servers end to end: it takes the machine for itself."""
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker("alone")
