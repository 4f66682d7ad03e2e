"""``ml-lifecycle profile``: what a table holds, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.commands import profile as command

DERIVE = """\
import pandas as pd


def lengths(rows):
    return pd.DataFrame({"length": rows["name"].str.len()})
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four days of a hundred rows."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "flight": range(400),
            "delay": np.where(np.arange(400) % 10 == 0, np.nan, np.arange(400) / 4),
            "origin": rng.choice(["EWR", "JFK", "LGA"], 400, p=[0.5, 0.3, 0.2]),
            "carrier": np.arange(400) % 3,
            "name": [f"passenger {place}" for place in range(400)],
            "at": pd.date_range("2026-03-01", periods=400, freq="15min"),
        }
    )
    path = tmp_path / "flights.parquet"
    table.to_parquet(path, index=False)
    return path


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["profile", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_each_column_is_told_by_what_it_holds(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "--data", str(file), "--key", "flight")

    assert found["rows"] == 400
    assert list(found["columns"]) == ["delay", "origin", "carrier", "name", "at"]
    delay = found["columns"]["delay"]
    assert (delay["present"], delay["missing"], delay["low"], delay["high"]) == (360, 40, 0.25, 99.75)
    assert delay["mean"] == pytest.approx(50)
    assert delay["quartiles"] == pytest.approx([25, 50, 75], abs=0.3)
    assert found["columns"]["origin"]["top"][0]["value"] == "EWR"
    assert sum(one["rows"] for one in found["columns"]["origin"]["top"]) == 400
    assert found["columns"]["name"]["kind"] == "identifier"


def test_people_read_a_line_per_column(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--data", str(file), "--categorical", "carrier"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "400 rows, 6 columns"
    assert lines[3].split()[:5] == ["delay", "number", "10.0%", "50", "28.866"]
    assert "3 categories: 0 33.5%, 1 33.2%, 2 33.2%" in lines[5]
    assert "name single rows" in lines[6]


def test_a_stored_profile_says_the_same_and_parts_merge(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_parquet(file)
    for name, rows in (("a", table[:150]), ("b", table[150:])):
        rows.to_parquet(tmp_path / f"{name}.parquet", index=False)
    blocks = ("--block", "day", "--time", "at")
    whole = as_json(capsys, "--data", str(file), *blocks, "--out", str(tmp_path / "whole"))
    for name in ("a", "b"):
        given = ("--data", str(tmp_path / f"{name}.parquet"), "--frame", str(tmp_path / "whole"))
        as_json(capsys, *given, "--time", "at", "--out", str(tmp_path / name))

    merged = as_json(capsys, "--merge", str(tmp_path / "a"), str(tmp_path / "b"))

    assert merged["blocks"] == ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04", "2026-03-05"]
    assert merged["frame"] == whole["frame"]
    assert merged["columns"]["origin"] == whole["columns"]["origin"]
    assert merged["columns"]["delay"]["mean"] == pytest.approx(whole["columns"]["delay"]["mean"])
    assert as_json(capsys, "--data", *(str(tmp_path / f"{one}.parquet") for one in "ab"))["rows"] == 400


def test_a_stored_profile_stands_for_its_table(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--data", str(file), "--out", str(tmp_path / "kept")]) == 0

    code = main(["drift", "--reference", str(tmp_path / "kept"), "--current", str(file)])

    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1]


def test_a_declared_function_makes_the_columns(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.py").write_text(DERIVE)

    found = as_json(capsys, "--data", str(file), "--derive", "texts:lengths", "--project", str(tmp_path))

    assert list(found["columns"]) == ["length"]
    assert (found["columns"]["length"]["low"], found["columns"]["length"]["high"]) == (11, 13)


def test_names_cannot_command_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"\x1b[2J": ["\x07bell", "\x07bell"]}).to_parquet(tmp_path / "t.parquet")

    assert main(["profile", "--data", str(tmp_path / "t.parquet")]) == 0

    assert "\x1b" not in (out := capsys.readouterr().out)
    assert "\x07" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "gone.parquet"], "there is no such file"),
        (["--data", "{file}", "--columns", "delai"], "did you mean 'delay'"),
        (["--data", "{file}", "--block", "day"], "when they happened"),
        (["--data", "{file}", "--frame", "nothing"], "no stored profile"),
        (["--data", "{file}", "--out", "{file}"], "something is there already"),
        (["--merge", "nothing"], "the profile cannot be read"),
        (["--data", "{file}", "--derive", "gone:function"], "gone"),
    ],
)
def test_what_cannot_be_used_ends_with_64(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["profile", *(one.format(file=file) for one in arguments)]) == 64

    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--data", "a", "--merge", "b"]])
def test_one_thing_to_count_is_asked_for(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", *arguments])

    assert ended.value.code == 64


def test_long_work_says_how_far_it_is(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PATIENCE_S", 0.0)

    assert main(["profile", "--data", str(file)]) == 0

    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "1 of 6 columns counted"
    assert "counted" not in said.out
