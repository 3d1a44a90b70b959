"""Data classes, and what may be done with the personal data of a record.

Said once for settings, contract, checks and cleaning. Light: every command reads the settings.
"""

from collections.abc import Mapping
from typing import Literal, get_args

DataClass = Literal["public", "internal", "confidential", "restricted"]
PersonalData = Literal["mask", "drop", "keep", "refuse"]

DATA_CLASSES: tuple[DataClass, ...] = get_args(DataClass)
PERSONAL_DATA_CHOICES: tuple[PersonalData, ...] = get_args(PersonalData)


def classes_up_to(allowed: str) -> tuple[str, ...]:
    """Return the classes that are at most as high as the one allowed.

    Raises:
        ValueError: if there is no such class.
    """
    names: tuple[str, ...] = DATA_CLASSES
    return names[: names.index(allowed) + 1]


def personal_data_choices(
    default: PersonalData, by_class: Mapping[DataClass, PersonalData]
) -> dict[str, PersonalData]:
    """Return what to do with the personal data of each data class."""
    return {name: by_class.get(name, default) for name in DATA_CLASSES}
