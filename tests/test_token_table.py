"""A batch as a table: every token, and whether it was trained."""

from ftdm_assets.token_table import token_table


def test_every_token_has_a_row_that_markdown_cannot_break() -> None:
    tokens = [("<|end|>", False), ("a\n`b`", True), ("é", True)]
    example = {
        "record_id": "r1",
        "tokens": [{"text": text, "trained": trained} for text, trained in tokens],
    }
    assert token_table([example]).splitlines() == [
        "**r1**",
        "",
        "| | token | trained |",
        "|---|---|---|",
        "| 1 | `<\\|end\\|>` |  |",
        "| 2 | `` a\\n`b` `` | yes |",
        "| 3 | `é` | yes |",
    ]


def test_nothing_to_show_says_why() -> None:
    assert "confidential or above" in token_table([])
