"""The packaged model in a process of its own: what would not serve is found out before anybody relies on it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest
from sklearn.neighbors import KNeighborsClassifier  # noqa: TID253  # as above

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.golden import GOLDEN_FILE, golden_rows, read_golden, write_golden
from ml_lifecycle.backends.models.inputs import CATEGORY, NUMBER
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.contracts import TrainedModel, Verdict
from ml_lifecycle.serving.rehearsal import Outcome, Rehearsal
from ml_lifecycle.serving.rehearsal import rehearse as rehearse_here
from ml_lifecycle.stages import rehearsal
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.rehearsal import judge, rehearse, rehearsing
from ml_lifecycle.stages.runner import Tools
from tests.fakes.small_model import dataset, rows, trained, with_project


def dumped(model: Any) -> bytes:
    """The model as a skops file, which looks names up in every loaded module, deprecated ones among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    found: bytes = skops.io.dumps(model)
    return found


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


def package_of(model: TrainedModel, tools: Tools, into: Path) -> Path:
    """The package as a plain folder that a test may change."""
    into.mkdir(parents=True)
    return tools.tracking.download(model.uri, into)


def as_folder(model: TrainedModel, folder: Path) -> TrainedModel:
    """The trained model with the folder's present bytes as the approved ones."""
    return model.model_copy(update={"uri": str(folder), "digest": digest_of_folder(folder)})


def outcome_of(folder: Path, **changes: object) -> Outcome:
    asked = {"folder": str(folder), "digest": digest_of_folder(folder), "requests": 3, **changes}
    return rehearse_here(Rehearsal.model_validate(asked), started=time.perf_counter())


# --- In a process of its own -----------------------------------------------------------------------------------------


def test_a_sound_package_loads_elsewhere_and_repeats_trainings_predictions(tools: Tools) -> None:
    check = rehearse(trained(tools), tools)

    assert check.verdict is Verdict.PASS, check.detail
    assert check.rows == 64
    assert check.largest_difference is not None
    assert check.largest_difference <= 1e-9
    assert None not in {check.load_s, check.latency_p50_ms, check.latency_p95_ms, check.peak_mb, check.model_mb}


def test_a_process_that_does_not_end_is_killed(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_PROGRAM", "import time; time.sleep(3600)")

    check = rehearse(trained(tools), tools, timeout_s=0.3)

    assert check.verdict is Verdict.FAIL
    assert check.detail == "it did not answer within 0.3 s"


def test_a_process_that_wants_too_much_memory_fails(tools: Tools) -> None:
    check = rehearse(trained(tools), tools, memory_mb=150)

    assert check.verdict is Verdict.FAIL
    assert check.rows == 0


def test_the_process_is_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://me:hush@example.com")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")

    found = rehearsal._environment(tmp_path)

    assert "hush" not in json.dumps(found)
    assert "PYTHONPATH" not in found
    assert found["LD_LIBRARY_PATH"] == "/opt/lib"
    assert found["HOME"] == str(tmp_path)


def test_a_process_that_a_signal_ended_is_a_failure_that_names_the_limits(tmp_path: Path) -> None:
    asked = Rehearsal(folder="", digest="", memory_mb=512, seconds=9)

    outcome = rehearsal._told(-9, io.BytesIO(), io.BytesIO(), asked)

    assert outcome.problem.startswith("the process was ended by SIGKILL; it may take 512 MB of memory and 9 s")


def test_the_process_takes_its_limits_upon_itself() -> None:
    program = (
        "import resource, signal\n"
        "from ml_lifecycle.serving.rehearsal import Rehearsal, confine\n"
        "confine(Rehearsal(folder='', digest='', memory_mb=2000, seconds=77))\n"
        "limits = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)\n"
        "print([resource.getrlimit(limit)[1] for limit in limits], signal.alarm(0) > 30)\n"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert told.stdout == "[2000000000, 77, 1048576, 0] True\n"


def test_what_a_model_prints_is_no_part_of_the_answer() -> None:
    program = (
        "import os\n"
        "from ml_lifecycle.serving import rehearsal\n"
        "def talkative(asked, **more):\n"
        "    print('loading ', end='')\n"
        "    os.write(1, b'from a library')\n"
        "    return rehearsal.Outcome(rows=3)\n"
        "rehearsal.rehearse = talkative\n"
        "rehearsal.main()\n"
        "print('bye')\n"
    )
    asked = Rehearsal(folder="", digest="")

    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(asked.to_xcom()) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert Outcome.model_validate_json(done.stdout) == Outcome(rows=3)
    assert "loading" in done.stderr
    assert "from a library" in done.stderr


@pytest.mark.parametrize("told", [b"", b"no json", b'{"rows": "many"}'])
def test_a_process_that_tells_nothing_is_a_failure(told: bytes) -> None:
    asked = Rehearsal(folder="", digest="")

    outcome = rehearsal._told(0, io.BytesIO(told), io.BytesIO(b"first\nlast words\n"), asked)

    assert outcome.problem == "the process ended with 0: last words"


# --- What would not serve --------------------------------------------------------------------------------------------


def test_a_package_with_one_other_byte_is_not_loaded(tools: Tools, tmp_path: Path) -> None:
    model = trained(tools)
    folder = package_of(model, tools, tmp_path / "package")
    changed = bytearray((folder / "model.skops").read_bytes())
    changed[100] ^= 1
    (folder / "model.skops").write_bytes(changed)

    check = rehearse(model.model_copy(update={"uri": str(folder)}), tools)

    assert check.verdict is Verdict.FAIL
    assert "the model package has digest" in check.detail


def test_a_package_that_changes_after_it_was_verified_is_not_loaded(tools: Tools, tmp_path: Path) -> None:
    model = trained(tools)
    folder = package_of(model, tools, tmp_path / "package")

    outcome = outcome_of(folder, digest="0" * 64)

    assert "expected 000000000000" in outcome.problem


def test_a_model_that_predicts_otherwise_than_training_did_fails(tools: Tools, tmp_path: Path) -> None:
    found = dataset(tools)
    model = trained(tools, found)
    folder = package_of(model, tools, tmp_path / "package")
    other = package_of(trained(tools, found, hyperparameters={"C": 0.001}), tools, tmp_path / "other")
    shutil.copy(other / "model.skops", folder / "model.skops")

    check = judge(outcome_of(folder), 1.0)

    assert check.verdict is Verdict.FAIL
    assert check.detail.startswith("it predicts otherwise than training did, by up to 0.")


def test_a_model_of_a_type_that_is_not_on_our_list_is_not_loaded(tools: Tools, tmp_path: Path) -> None:
    folder = package_of(trained(tools), tools, tmp_path / "package")
    stranger = KNeighborsClassifier(1).fit([[0.0], [1.0]], [False, True])
    (folder / "model.skops").write_bytes(dumped(stranger))

    outcome = outcome_of(folder)

    assert "types that are not loaded here" in outcome.problem
    assert "KNeighborsClassifier" in outcome.problem


def test_a_model_that_answers_nan_fails(tools: Tools, tmp_path: Path) -> None:
    found = dataset(tools, rows().assign(late=lambda table: 3 * table["distance"]))
    model = trained(tools, found, estimator="sklearn.linear_model.LinearRegression")
    folder = package_of(model, tools, tmp_path / "package")
    fitted = SkopsFormat().load(folder, allowed_types=())
    fitted.named_steps["model"].intercept_ = float("nan")
    (folder / "model.skops").write_bytes(dumped(fitted))

    outcome = outcome_of(folder)

    assert outcome.problem == "it answers NaN or infinity in 64 rows"


def test_golden_rows_that_hold_nan_are_no_yardstick(tools: Tools, tmp_path: Path) -> None:
    folder = package_of(trained(tools), tools, tmp_path / "package")
    golden = read_golden(folder)
    assert golden is not None
    write_golden(folder, golden[0], np.full(64, np.nan))

    assert "training's own predictions hold NaN" in outcome_of(folder).problem


@pytest.mark.parametrize(
    "inputs",
    [
        {"carrier": "category", "distance": "number", "temp": "number"},
        {"distance": "number", "carrier": "number", "temp": "number"},
        {"distance": "number", "carrier": "category"},
    ],
)
def test_a_package_that_declares_another_input_than_training_gave_fails(
    inputs: dict[str, str], tools: Tools, tmp_path: Path
) -> None:
    folder = package_of(trained(tools), tools, tmp_path / "package")
    said = json.loads((folder / "package.json").read_text())
    (folder / "package.json").write_text(json.dumps({**said, "inputs": inputs}))

    outcome = outcome_of(folder)

    assert "training gave distance (number), carrier (category), temp (number)" in outcome.problem


def test_a_package_without_golden_rows_is_inconclusive(tools: Tools, tmp_path: Path) -> None:
    folder = package_of(trained(tools), tools, tmp_path / "package")
    (folder / GOLDEN_FILE).unlink()

    check = judge(outcome_of(folder), 1.0)

    assert check.verdict is Verdict.INCONCLUSIVE
    assert "no golden rows" in check.detail
    assert check.load_s is not None


def test_golden_rows_that_cannot_be_read_fail(tools: Tools, tmp_path: Path) -> None:
    folder = package_of(trained(tools), tools, tmp_path / "package")
    (folder / GOLDEN_FILE).write_bytes(b"PAR1 and no more")

    assert "golden.parquet cannot be read" in outcome_of(folder).problem


def test_the_package_loads_while_its_task_works_and_is_measured_when_asked(tools: Tools) -> None:
    with rehearsing(trained(tools), tools) as conclude:
        check = conclude()

    assert check.verdict is Verdict.PASS, check.detail
    assert check.latency_p95_ms is not None
    assert check.latency_p95_ms > 0


def test_a_task_that_fails_meanwhile_leaves_no_process(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def noted(*args: Any, **options: Any) -> Any:
        started.append(popen(*args, **options))
        return started[-1]

    model = trained(tools)
    monkeypatch.setattr("ml_lifecycle.stages.rehearsal.subprocess.Popen", noted)

    with pytest.raises(RuntimeError, match="mine"), rehearsing(model, tools):
        raise RuntimeError("mine")

    assert [process.returncode is not None for process in started] == [True]


def test_a_process_whose_task_is_gone_does_not_wait_for_ever(tools: Tools) -> None:
    model = trained(tools)
    with verified_package(model.uri, model.digest, tools) as folder:
        asked = Rehearsal(folder=str(folder), digest=model.digest)

        done = subprocess.run(
            [sys.executable, "-I", "-c", rehearsal._PROGRAM, str(rehearsal._SOURCE_ROOT)],
            input=json.dumps(asked.to_xcom()) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert (done.returncode, done.stdout) == (1, "")
    assert "is gone" in done.stderr


def test_a_package_that_is_gone_fails(tools: Tools, tmp_path: Path) -> None:
    model = trained(tools).model_copy(update={"uri": str(tmp_path / "nowhere")})

    check = rehearse(model, tools)

    assert check.verdict is Verdict.FAIL
    assert "no model package" in check.detail


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [(0.0, Verdict.PASS), (1e-6, Verdict.PASS), (1.1e-6, Verdict.FAIL), (None, Verdict.INCONCLUSIVE)],
)
def test_the_largest_difference_decides(difference: float | None, verdict: Verdict) -> None:
    assert judge(Outcome(rows=1, largest_difference=difference), 1.0).verdict is verdict


# --- Golden rows -----------------------------------------------------------------------------------------------------


def test_golden_rows_hold_the_extremes_the_gaps_and_the_rarest_value() -> None:
    count = 1000
    table = pd.DataFrame({"distance": np.ones(count), "carrier": ["AA"] * count})
    table.loc[501, "distance"], table.loc[502, "distance"], table.loc[503, "distance"] = -7.0, 9.0, np.nan
    table.loc[504, "carrier"], table.loc[505, "carrier"] = "ZZ", None

    found = golden_rows(table, {"distance": NUMBER, "carrier": CATEGORY})

    assert len(found) == 64
    assert {-7.0, 9.0} <= set(found["distance"])
    assert found["distance"].isna().sum() == 1
    assert "ZZ" in set(found["carrier"])
    assert found["carrier"].isna().sum() == 1


def test_a_small_dataset_is_golden_as_a_whole() -> None:
    table = pd.DataFrame({"distance": [3.0, 1.0, 2.0], "empty": [np.nan, np.nan, np.nan]})

    found = golden_rows(table, {"distance": NUMBER, "empty": NUMBER})

    assert found["distance"].tolist() == [3.0, 1.0, 2.0]


def test_many_inputs_leave_room_for_ordinary_rows() -> None:
    table = pd.DataFrame({f"x{place}": np.random.default_rng(place).normal(size=500) for place in range(80)})

    found = golden_rows(table, dict.fromkeys(table.columns, NUMBER))

    assert len(found) == 64


def test_the_same_rows_make_the_same_file(tmp_path: Path) -> None:
    table = pd.DataFrame({"distance": [1.0, 2.0], "carrier": ["AA", None]})
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_golden(tmp_path / name, table, np.array([0.25, 0.75]))

    assert digest_of_folder(tmp_path / "one") == digest_of_folder(tmp_path / "two")
