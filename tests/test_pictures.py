"""Pictures: valid PNGs of a fitting size for usual, empty and odd numbers; the same bytes twice."""

import base64
import io
from collections.abc import Callable

import pandas as pd
import pytest
from matplotlib import image

from ftdm_assets import agreement_pictures, pictures
from ftdm_assets.records.agreement import AgreementResult, agreement

LABELS = [f"category_number_{n}" for n in range(40)]
MATRIX = [[8 * (row == column) + (column == 40) for column in range(41)] for row in range(40)]
COUNTS = {label: n + 1 for n, label in enumerate(LABELS)}


def agreed(labels: int, annotators: int) -> AgreementResult:
    """Return the agreement of annotators on as many texts as labels, some with errors."""
    rows = [
        (f"r{n}/{who}", f"text {n}", f"$category_{(n + (n * who) % 7 // 6) % labels}", f"ann-{who}")
        for n in range(labels)
        for who in range(annotators)
    ]
    frame = pd.DataFrame(rows, columns=["record_id", "input", "output", "annotator"])
    return agreement(frame.assign(annotated_at=""))


DRAWINGS: dict[str, Callable[[], bytes]] = {
    "loss": lambda: pictures.loss_curve(range(1, 101), [3 / n for n in range(1, 101)]),
    "loss of one step": lambda: pictures.loss_curve([1], [0.0]),
    "loss of nothing": lambda: pictures.loss_curve([], []),
    "confusion": lambda: pictures.confusion_matrix(MATRIX, LABELS),
    "confusion of two": lambda: pictures.confusion_matrix([[0, 0, 0], [0, 0, 0]], ["a", "b"]),
    "balance": lambda: pictures.label_balance(COUNTS, {"category_number_3": 2}),
    "balance of nothing": lambda: pictures.label_balance({}, {}),
    "drops": lambda: pictures.drop_reasons({"empty": 3, "near_duplicate": 20}, 1234),
    "no drops": lambda: pictures.drop_reasons({}, 5),
    "lengths": lambda: pictures.length_histogram([n % 90 for n in range(500)], limit=80),
    "lengths in tokens": lambda: pictures.length_histogram([5], unit="tokens"),
    "no lengths": lambda: pictures.length_histogram([]),
    "scores": lambda: pictures.score_bars({"baseline": 0.41, "model": 0.92}, target=0.9),
    "low scores": lambda: pictures.score_bars({"baseline": 0.0, "model": 0.05}, target=0.3),
    "agreement": lambda: agreement_pictures.agreement_matrix(agreed(40, 4)),
    "agreement of two": lambda: agreement_pictures.agreement_matrix(agreed(1, 2)),
    "agreement of many": lambda: agreement_pictures.agreement_matrix(agreed(3, 18)),
    "agreement of none": lambda: agreement_pictures.agreement_matrix(agreed(0, 0)),
    "label agreement": lambda: agreement_pictures.label_agreement(agreed(40, 4)),
    "label agreement of many": lambda: agreement_pictures.label_agreement(agreed(80, 2)),
    "label agreement of none": lambda: agreement_pictures.label_agreement(agreed(0, 0)),
    "no scores": lambda: pictures.score_bars({}),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_a_png_that_fits_the_page(name: str) -> None:
    pixels = image.imread(io.BytesIO(DRAWINGS[name]()), format="png")
    height, width = pixels.shape[:2]
    assert 400 <= width <= 1100
    assert 100 <= height <= 2000
    assert pixels.min() < 0.5 < pixels.max()


def test_the_same_numbers_give_the_same_bytes() -> None:
    for name in ("loss", "confusion", "scores"):
        assert DRAWINGS[name]() == DRAWINGS[name]()


def test_a_label_with_dollars_or_markup_is_shown_as_it_is() -> None:
    pictures.drop_reasons({"$\\broken$": 1, "a^{b": 2}, 3)
    pictures.label_balance({"$\\x$": 1}, {"$": 1})
    pictures.confusion_matrix([[1, 0, 0], [0, 1, 0]], ["$\\frac$", "b"])
    assert pictures.score_bars({"$\\bad$": 0.5})


def test_markdown_carries_the_picture() -> None:
    png = DRAWINGS["no drops"]()
    text = pictures.markdown(png, "drops")
    prefix = "![drops](data:image/png;base64,"
    assert text.startswith(prefix)
    assert base64.b64decode(text.removeprefix(prefix).removesuffix(")")) == png
