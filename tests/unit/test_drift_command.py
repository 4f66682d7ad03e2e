"""Files against files: what is compared, what a person reads, and how a program learns the verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.commands.drift import told
from ml_lifecycle.core.contracts import ColumnDrift, DriftPolicy, Rate, Verdict
from ml_lifecycle.core.errors import ColumnError, DataError, RequestError
from ml_lifecycle.stages.drift_files import FileDrift, Files, compare_files

HOSTILE = "</script><img src=x onerror=alert(1)>"


def table(seed: int = 1, rows: int = 3000, **columns: Any) -> pd.DataFrame:
    """Three weeks of rows, all alike."""
    generator = np.random.default_rng(seed)
    start = pd.Timestamp("2013-01-01", tz="UTC") + pd.Timedelta(days=30 * seed)
    drawn: pd.DataFrame = pd.DataFrame(
        {
            "row": np.arange(rows) + seed * rows,
            "id": [f"u{seed}-{number}" for number in range(rows)],
            "at": start + pd.to_timedelta(np.arange(rows) * 10, unit="min"),
            "x": generator.normal(size=rows),
            "kind": generator.choice(list("abc"), rows),
            "same": 1,
            "none": None,
            HOSTILE: generator.normal(size=rows),
        }
    )
    changed: pd.DataFrame = drawn.assign(**columns)
    return changed


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    table().to_parquet("january.parquet")
    table(2).to_parquet("february.parquet")
    moved = table(3)
    moved.assign(x=moved["x"] + 1).to_parquet("march.parquet")
    return tmp_path


def by_name(found: FileDrift) -> dict[str, ColumnDrift]:
    return {column.column: column for column in found.columns}


def drift(*more: str, reference: str = "january.parquet", current: str = "february.parquet") -> int:
    return main(["drift", "--reference", reference, "--current", current, *more])


def parsed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# --- What is compared ------------------------------------------------------------------------------------------------


def test_files_that_are_alike_have_not_drifted(here: Path) -> None:
    found = compare_files("january.parquet", "february.parquet")

    assert (found.report.verdict, found.report.drifted, found.report.alpha) == (Verdict.PASS, 0, 0.05)
    assert all(column.p_value is not None for column in found.columns)


def test_only_the_column_that_moved_has_drifted(here: Path) -> None:
    found = compare_files(here / "january.parquet", here / "march.parquet")

    assert found.report.verdict is Verdict.FAIL
    assert [column.column for column in found.columns if column.drifted] == ["x"]
    # Two normal distributions one deviation apart: 2 Phi(1/2) - 1.
    assert found.columns[0].distance == pytest.approx(0.3829, abs=0.03)


def test_what_only_numbers_or_names_rows_is_not_compared_by_its_values(here: Path) -> None:
    found = compare_files("january.parquet", "february.parquet")

    columns = by_name(found)
    assert "row" not in columns
    assert any("they number the rows: row" in text for text in found.report.warnings)
    assert (columns["id"].kind, columns["at"].kind) == ("identifier", "time")
    assert (columns["id"].distance, columns["at"].distance) == (0.0, 0.0)


def test_row_numbers_are_compared_where_somebody_asks_for_them(here: Path) -> None:
    found = compare_files("january.parquet", "february.parquet", policy=DriftPolicy(columns=("row",)))

    assert by_name(found)["row"].drifted


def test_a_key_is_left_out_and_a_misspelt_one_is_told(here: Path) -> None:
    found = compare_files("january.parquet", "february.parquet", files=Files(key="id"))

    assert "id" not in by_name(found)
    with pytest.raises(ColumnError, match="did you mean 'kind'"):
        compare_files("january.parquet", "february.parquet", files=Files(key="kid"))


def test_a_column_that_is_gone_lost_all_its_values(here: Path) -> None:
    table(2).drop(columns="kind").to_parquet("less.parquet")

    column = by_name(compare_files("january.parquet", "less.parquet"))["kind"]

    assert (column.drifted, column.missing, column.missing_before) == (True, 1.0, 0.0)
    assert column.detail == "the current data has no such column"


def test_a_column_that_is_new_is_named_and_not_compared(here: Path) -> None:
    table(2, fresh=1).to_parquet("more.parquet")

    found = compare_files("january.parquet", "more.parquet")

    assert "fresh" not in by_name(found)
    assert found.report.verdict is Verdict.PASS
    assert any("no such column: fresh" in text for text in found.report.warnings)


def test_tables_of_two_kinds_are_refused(here: Path) -> None:
    pd.DataFrame({"other": [1.0] * 100}).to_parquet("other.parquet")

    with pytest.raises(ColumnError, match="none of the reference's columns"):
        compare_files("january.parquet", "other.parquet")


@pytest.mark.parametrize(("rows", "known"), [(12, False), (40, True)])
def test_of_a_handful_of_rows_nothing_is_known(rows: int, known: bool, here: Path) -> None:  # noqa: FBT001  # a table
    table(2, rows=rows, x=9.0).to_parquet("few.parquet")

    found = compare_files("january.parquet", "few.parquet")

    assert by_name(found)["x"].drifted is known
    assert (found.report.verdict is Verdict.FAIL) is known
    assert (found.report.verdict is Verdict.INCONCLUSIVE) is not known


def test_a_difference_too_small_to_matter_is_no_drift(here: Path) -> None:
    strict = compare_files("january.parquet", "march.parquet", policy=DriftPolicy(min_effect=0.3))
    lenient = compare_files("january.parquet", "march.parquet", policy=DriftPolicy(min_effect=0.5))

    assert (strict.report.verdict, lenient.report.verdict) == (Verdict.FAIL, Verdict.PASS)


def test_how_often_somebody_looks_makes_what_a_look_may_spend(here: Path) -> None:
    policy = DriftPolicy(false_alarms=Rate(count=1, per="year"))

    daily = compare_files("january.parquet", "february.parquet", policy=policy, every="daily")
    monthly = compare_files("january.parquet", "february.parquet", policy=policy, every="monthly")

    assert daily.report.alpha == pytest.approx(1 / 365.25)
    # A twelfth would be more than any look may spend.
    assert monthly.report.alpha == 0.05


def test_csv_and_folders_are_read_as_parquet_is(here: Path) -> None:
    table(2).to_csv("february.csv", index=False)
    (here / "folder").mkdir()
    for place in range(2):
        table(2).iloc[place::2].to_parquet(f"folder/{place}.parquet")

    whole, csv, folder = (
        by_name(compare_files("january.parquet", name)) for name in ("february.parquet", "february.csv", "folder")
    )

    for name in ("x", "kind", HOSTILE):
        assert csv[name].distance == pytest.approx(whole[name].distance)
        assert folder[name].distance == pytest.approx(whole[name].distance)


def test_an_address_is_read_as_a_file_is(here: Path) -> None:
    found = compare_files(f"file://{here}/january.parquet", f"file://{here}/march.parquet")

    assert found.columns == compare_files("january.parquet", "march.parquet").columns
    assert found.report.reference.uri == f"file://{here}/january.parquet"


def test_columns_can_be_made_of_those_that_are_there(here: Path) -> None:
    for seed, name in ((1, "before"), (2, "same"), (3, "after")):
        texts = pd.DataFrame({"text": [f"{place} {'word ' * (place % 7 + (seed == 3))}" for place in range(500)]})
        texts.to_parquet(f"{name}.parquet")

    def lengths(rows: pd.DataFrame) -> pd.DataFrame:
        words: pd.DataFrame = pd.DataFrame({"words": [len(text.split()) for text in rows["text"]]})
        return words

    files = Files(derive=lengths)
    same = compare_files("before.parquet", "same.parquet", files=files)
    after = compare_files("before.parquet", "after.parquet", files=files)

    assert (same.report.verdict, after.report.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert [column.column for column in after.columns] == ["words"]


# --- Stored counts ---------------------------------------------------------------------------------------------------


def counts(name: str, data: str, *more: str) -> str:
    assert main(["profile", "--data", data, "--out", name, *more]) == 0
    return name


def test_stored_counts_say_what_the_table_would_say(here: Path) -> None:
    stored = counts("stored", "january.parquet")

    direct, later = compare_files("january.parquet", "march.parquet"), compare_files(stored, "march.parquet")

    assert later.columns == direct.columns
    assert later.report.verdict is Verdict.FAIL


def test_of_stored_counts_only_what_is_asked_for_is_compared(here: Path) -> None:
    before, after = counts("before", "january.parquet"), counts("after", "march.parquet")
    policy = DriftPolicy(columns=("x", "kind"))

    stored = compare_files(before, "march.parquet", policy=policy, files=Files(key="id"))
    current = compare_files("january.parquet", after, policy=policy)

    assert [column.column for column in stored.columns] == ["x", "kind"]
    assert [column.column for column in current.columns] == ["x", "kind"]
    assert "id" not in by_name(compare_files(before, "march.parquet", files=Files(key="id")))


def test_both_sides_may_be_stored_if_they_were_counted_alike(here: Path) -> None:
    before = counts("before", "january.parquet")
    after = counts("after", "march.parquet", "--frame", before)
    alone = counts("alone", "march.parquet")

    assert compare_files(before, after).columns == compare_files("january.parquet", "march.parquet").columns
    with pytest.raises(DataError, match="one frame"):
        compare_files(before, alone)


def test_counts_by_day_need_the_time_of_the_current_rows(here: Path) -> None:
    stored = counts("stored", "january.parquet", "--time", "at", "--block", "day")

    with pytest.raises(RequestError, match="no column says when"):
        compare_files(stored, "february.parquet")
    found = compare_files(stored, "february.parquet", files=Files(time="at"))

    assert found.report.verdict is Verdict.PASS
    assert len(found.reference.blocks) == 21


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "code", "verdict"),
    [("february.parquet", 0, "pass"), ("march.parquet", 1, "fail"), ("few", 2, "inconclusive")],
)
def test_the_exit_code_is_the_verdict(
    current: str, code: int, verdict: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "few").mkdir()
    table(2, rows=5).to_parquet("few/one.parquet")

    assert drift("--json", current=current) == code
    assert parsed(capsys)["verdict"] == verdict


def test_a_program_learns_all_columns_with_what_was_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drift("--json", "--ignore", "same,none", current="march.parquet")

    found = parsed(capsys)
    assert (found["compared"], found["drifted"], found["alpha"]) == (5, 1, 0.05)
    assert found["rows"] == {"reference": 3000, "current": 3000}
    assert found["columns"][0]["column"] == "x"
    assert found["columns"][0]["psi"] > 0.2
    assert found["policy"]["ignore"] == ["same", "none"]


def test_a_person_reads_what_moved_first_and_what_the_verdict_may_cost(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drift("--every", "daily", "--false-alarms", "2 per year", "--min-effect", "5%", current="march.parquet")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FAIL: 1 of 7 columns moved; 3,000 rows before, 3,000 now"
    assert "a false alarm 2 times a year at most, looking daily" in lines[1]
    assert "less than 5% of the rows elsewhere is no drift" in lines[1]
    assert lines[3].split()[:2] == ["drifted", "x"]


def test_a_single_comparison_says_how_often_it_is_wrong(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drift()

    assert "a single comparison, wrong without any drift in 5.0% of cases at most" in capsys.readouterr().out


def test_a_wide_table_is_cut_but_never_where_something_drifted(here: Path) -> None:
    found = compare_files("january.parquet", "march.parquet")
    still, moved = by_name(found)["kind"], by_name(found)["x"]
    columns = [moved.model_copy(update={"column": f"m{place}"}) for place in range(50)]
    columns += [still.model_copy(update={"column": f"s{place}"}) for place in range(100)]
    wide = FileDrift(found.report, tuple(columns), found.reference, found.current)

    lines = list(told(wide, DriftPolicy(), None))

    assert sum("drifted" in line for line in lines) == 50
    assert any("and 100 more that did not move" in line for line in lines)


def test_control_characters_in_names_do_not_reach_the_terminal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        pd.DataFrame({"\x1b[31mred\u202e": [1.0, 2.0] * 50}).to_parquet(f"{name}.parquet")

    drift(reference="a.parquet", current="b.parquet")

    assert {"\x1b", "\u202e"}.isdisjoint(capsys.readouterr().out)


def test_pages_are_written_and_names_stay_text_in_them(here: Path) -> None:
    moved = table(3)
    moved.assign(**{HOSTILE: moved[HOSTILE] + 2}).to_parquet("moved.parquet")

    assert drift("--html", "drift.html", "--evidently", "evidently.html", current="moved.parquet") == 1

    own, evidently = Path("drift.html").read_text(), Path("evidently.html").read_text()
    assert "Drift: 1 of 7 columns moved." in own
    assert "&lt;/script&gt;" in own
    assert HOSTILE not in own
    assert HOSTILE not in evidently


def test_evidently_draws_nothing_where_nothing_moved(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drift("--evidently", "evidently.html") == 0

    assert "nothing moved" in capsys.readouterr().err
    assert not Path("evidently.html").exists()


def test_a_function_of_the_project_makes_the_columns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "derived.py").write_text("def signs(rows):\n    return (rows[['x']] > 0).astype('int64')\n")

    assert drift("--derive", "derived:signs", "--json", current="march.parquet") == 1
    assert [column["column"] for column in parsed(capsys)["columns"]] == ["x"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--min-effect", "300%"], "--min-effect: 3 is no share below 1"),
        (["--min-effect", "nan"], "--min-effect"),
        (["--min-effect", "much"], "--min-effect"),
        (["--every", "daily", "--false-alarms", "few"], "'few' is not a rate"),
        (["--false-alarms", "1 per day"], "add --every daily"),
        (["--columns", "y"], "the reference has no column 'y'"),
        (["--ignore", "knd"], "did you mean 'kind'"),
        (["--categorical", "y"], "the reference has no column 'y'"),
        (["--block", "day"], "rows of one day are taken together"),
        (["--key", "y"], "there is no key column 'y'"),
        (["--derive", "absent:function"], "there is no module 'absent'"),
        (["--html", "january.parquet/page.html"], "january.parquet/page.html"),
    ],
)
def test_bad_input_says_what_is_wrong(
    arguments: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drift(*arguments) == 64
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("side", ["reference", "current"])
@pytest.mark.parametrize(
    ("name", "words"),
    [("absent.parquet", "no such file"), ("torn.parquet", "torn.parquet"), ("page.html", ".html"), ("empty", "empty")],
)
def test_a_file_that_cannot_be_used_is_named(
    side: str, name: str, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "torn.parquet").write_bytes((here / "january.parquet").read_bytes()[:1000])
    (here / "page.html").write_text("<p>")
    (here / "empty").mkdir()

    assert drift(**{side: name}) == 64
    assert words in capsys.readouterr().err


def test_a_page_of_rows_cannot_be_drawn_from_counts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = counts("stored", "january.parquet")

    assert drift("--evidently", "evidently.html", reference=stored, current="march.parquet") == 64
    assert "a stored profile holds no rows to draw" in capsys.readouterr().err


def test_leaving_out_every_column_compares_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table()[["x", "kind"]].to_parquet("two.parquet")

    assert drift("--ignore", "x,kind", reference="two.parquet", current="two.parquet") == 64

    assert "no column is left to compare" in capsys.readouterr().err


def test_a_name_in_a_message_cannot_move_the_cursor(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"a\x1b[2J": [1.0] * 30}).to_parquet("hostile.parquet")

    assert drift(reference="hostile.parquet") == 64

    assert "\x1b" not in capsys.readouterr().err
