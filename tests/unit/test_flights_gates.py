"""The flights' study: what its page shows is what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flights_gates

PAGE = (flights_gates.REPOSITORY / "docs" / "guides" / "gates-on-flights.md").read_text()


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """The study's numbers, as they are kept."""
    found: dict[str, Any] = json.loads(flights_gates.RESULT.read_text())
    return found


def test_the_pages_table_is_the_studys(result: dict[str, Any]) -> None:
    assert flights_gates.table(result) in PAGE


def test_the_page_counts_the_verdicts_as_they_are(result: dict[str, Any]) -> None:
    verdicts = [one["verdict"] for one in result["candidates"]]
    by_rows_alone = [one["if_flights_were_independent"]["verdict"] for one in result["candidates"]]

    assert (verdicts.count("pass"), verdicts.count("inconclusive"), verdicts.count("fail")) == (7, 5, 0)
    assert by_rows_alone.count("pass") == 10
    assert "**Seven of twelve pass, five are inconclusive, none fails.**" in PAGE


@pytest.mark.parametrize("name", list(flights_gates.policies()))
def test_the_page_tells_what_each_policy_would_have_done(name: str, result: dict[str, Any]) -> None:
    summary = result["backtests"][name]["summary"]
    outcomes, judgements = summary["outcomes"], summary["judgements"]

    row = (
        f"| {outcomes['promoted']} | {outcomes['held']} | {outcomes['refused']} | {judgements['right promotion']} "
        f"| {judgements['missed gain']} | {summary['later_gain']:+.4f} |"
    )

    assert any(line.startswith("| ") and line.endswith(row) for line in PAGE.splitlines()), row


def test_the_picture_is_drawn_from_the_numbers_alone(result: dict[str, Any], tmp_path: Path) -> None:
    flights_gates.draw(result, tmp_path / "picture.png")

    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
