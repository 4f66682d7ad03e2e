"""Two model packages and a log on files: how differently they answer, and the exit code that says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.commands.output import BAD_INPUT, DONE, FAILED, INCONCLUSIVE
from tests.fakes.answering_models import asked, log, package, says


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of a model, of the same one and of others, and a log of 600 requests to the first."""
    folder = tmp_path_factory.mktemp("shadow")
    old = package(folder / "old")
    package(folder / "same")
    package(folder / "shifted", shift=1.0)
    package(folder / "strict", ["far", "wind", "carrier"])
    table = asked(600)
    table.loc[:59, "carrier"] = "ZZ"
    log(folder / "log", old, table)
    return folder


def called(place: Path, new: str, *more: str, old: str = "old") -> int:
    return main(
        ["shadow", str(place / old), str(place / new), "--log", str(place / "log"), "--endpoint=flights", *more]
    )


def test_a_model_that_answers_alike_passes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(place, "same", "--max-shift", "5%")

    said = capsys.readouterr().out
    assert code == DONE
    assert said.startswith("PASS: 600 requests answered by both\n")
    assert "distance of the scores" in said


def test_a_model_that_answers_otherwise_fails_once_a_limit_is_set(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, judged = called(place, "shifted"), called(place, "shifted", "--max-shift", "0.05")

    assert (told, judged) == (DONE, FAILED)
    assert "FAIL: 600 requests answered by both" in capsys.readouterr().out


def test_a_model_that_cannot_answer_fails(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(place, "strict")

    assert code == FAILED
    assert "540 requests answered by both; 60 by the old one only" in capsys.readouterr().out


def test_too_few_requests_are_inconclusive(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(place, "same", "--requests", "100")

    assert code == INCONCLUSIVE
    assert "INCONCLUSIVE: 100 requests answered by both" in capsys.readouterr().out


def test_a_log_of_another_model_is_inconclusive_and_says_why(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(place, "same", old="shifted")

    assert code == INCONCLUSIVE
    assert "the log holds no request that OLD answered" in capsys.readouterr().out


def test_programs_get_the_numbers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = called(place, "shifted", "--max-shift=5%", "--json")

    found = json.loads(capsys.readouterr().out)
    before, after = (says(place / name, asked(600)) for name in ("old", "shifted"))
    assert code == FAILED
    assert found["verdict"] == "fail"
    assert found["paired"]["rows"] == 600
    assert found["paired"]["mean_difference"] == pytest.approx(float(np.mean(after - before)))
    assert [check["name"] for check in found["checks"]] == ["answers", "error rate", "prediction shift"]
    assert found["policy"]["max_prediction_shift"] == 0.05


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--max-shift", "most"], "--max-shift: 'most' is no share between 0 and 1"),
        (["--max-shift", "0%"], "--max-shift: '0%' is no share between 0 and 1"),
        (["--max-failed", "nan"], "--max-failed: 'nan' is no share between 0 and 1"),
        (["--requests", "0"], "--requests: 0 is not between 1 and 100,000"),
        (["--endpoint", "flight"], "the log holds nothing of 'flight'; it holds flights, did you mean 'flights'?"),
        (["--log", "/nowhere"], "the log holds nothing of 'flights'; it holds nothing"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    place: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = called(place, "same", *more)

    assert code == BAD_INPUT
    assert said in capsys.readouterr().err


def test_a_folder_that_is_no_package_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [called(place, "log"), called(place, "nothing")]

    said = capsys.readouterr().err
    assert codes == [BAD_INPUT, BAD_INPUT]
    assert "the package's package.json cannot be read" in said
    assert "there is no model package" in said
