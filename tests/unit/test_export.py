"""Who may hand a model out, and the commands that do."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.export.loader import follow, open_bundle
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.signing.keys import write_signing_key
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import ExportedBundle, ModelVersion, Move, RunRequest
from ml_lifecycle.core.errors import ConfigurationError, NoDecisionError, RequestError, StaleEpochError
from ml_lifecycle.stages.deployment import RollbackJob, deploy, roll_back
from ml_lifecycle.stages.export import ExportJob, export
from ml_lifecycle.stages.runner import Tools, record, run
from tests.fakes.bundle_place import signing_key
from tests.fakes.champions import decided
from tests.fakes.small_model import registered, trained
from tests.fakes.told_release import deployment_below

KEY = signing_key().public.text


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, registered; nobody was asked about them."""
    folder = tmp_path_factory.mktemp("template")
    tools = deployment_below(folder, signing_key())
    trainings: tuple[dict[str, Any], ...] = ({}, {"seed": 8, "hyperparameters": {"C": 0.5}})
    for training in trainings:
        record("register", registered(tools, trained(tools, **training)), tools, model="flights")
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Tools:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    tracking = LocalTracking(tmp_path / "tracking")
    return Tools(
        data=LocalStore(tmp_path / "data"),
        project=tmp_path / "project",
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}"),
        environment="test",
        signing_key=signing_key,
    )


def version_of(tools: Tools, number: int) -> ModelVersion:
    (found,) = tools.ledger.results("test", "flights", "register", version=number)
    return ModelVersion.model_validate(found["content"])


def released(tools: Tools, number: int = 1) -> Move:
    version = version_of(tools, number)
    decision = decided(tools, version).decision
    return tools.ledger.release(version, decision, moved_by="ada", at=tools.clock())


def exported(tools: Tools, version: int = 1, **job: Any) -> ExportedBundle:
    request = RunRequest(model="flights", stream="release", run_id="flights_export/one")
    record("resolve", request, tools, model="flights")
    return run(export, ExportJob(request=request, version=version, **job), tools, model="flights")


def audit(tools: Tools) -> list[tuple[str, str]]:
    return [(row["action"], row["detail"]) for row in tools.ledger.audit("flights")]


def command(tmp_path: Path, *more: str) -> int:
    if not (tmp_path / "key.pem").exists():
        write_signing_key(signing_key(), tmp_path / "key.pem")
    options = ["--ledger", f"sqlite:///{tmp_path}/ledger.db", "--mlflow", f"file://{tmp_path}/tracking"]
    out = ["--out", str(tmp_path / "flights.zip"), "--key", str(tmp_path / "key.pem")]
    return main(["export", "bundle", "flights", *out, *options, *more])


# --- The right -------------------------------------------------------------------------------------------------------


def test_a_released_version_is_handed_out_and_the_ledger_knows_of_it(place: Tools) -> None:
    move = released(place)

    made = exported(place)

    assert made.uri == f"bundles/flights/test/v1-{made.sha256[:16]}.zip"
    assert (made.decision_id, made.digest) == (move.decision_id, move.digest)
    with place.data.file(made.uri) as path:
        told = open_bundle(path, KEY).manifest
    assert (told["decision_id"], told["digest"]) == (made.decision_id, made.digest)
    (result,) = place.ledger.results("test", "flights", "export")
    assert result["content"] == made.to_xcom()


def test_handing_it_out_twice_gives_one_file(place: Tools) -> None:
    released(place)

    assert exported(place) == exported(place)


def test_an_approved_version_may_go_out_before_it_serves(place: Tools) -> None:
    decided(place, version_of(place, 1))

    assert exported(place).version == 1


def test_an_earlier_champion_may_go_out(place: Tools) -> None:
    released(place, 1)
    released(place, 2)

    assert [exported(place, version).version for version in (1, 2)] == [1, 2]


def test_what_nobody_approved_stays_here_and_the_audit_says_who_tried(place: Tools) -> None:
    with pytest.raises(NoDecisionError, match="nobody has approved it"):
        exported(place)

    assert audit(place)[-1][0] == "export refused"


def test_what_was_rejected_stays_here(place: Tools) -> None:
    decided(place, version_of(place, 1), "reject")

    with pytest.raises(NoDecisionError, match="ada rejected it"):
        exported(place)


def test_what_was_rolled_back_stays_here(place: Tools) -> None:
    released(place, 1)
    released(place, 2)
    place.ledger.rollback("flights", "test", key="one", moved_by="eve", reason="bad", at=place.clock())

    with pytest.raises(NoDecisionError, match="was rolled back at epoch 3"):
        exported(place, 2)
    assert exported(place, 1).version == 1


def test_an_approval_that_was_overtaken_gives_no_right(place: Tools) -> None:
    decided(place, version_of(place, 1))
    released(place, 2)

    with pytest.raises(StaleEpochError, match="another version was released since"):
        exported(place, 1)


def test_a_blocked_approval_gives_no_right(place: Tools) -> None:
    move = released(place)
    place.ledger.block(move.decision_id or "", why="two answers", at=place.clock())

    with pytest.raises(NoDecisionError, match="gives no right to anything: two answers"):
        exported(place)


def test_another_environments_approval_gives_no_right(place: Tools) -> None:
    released(place)

    with pytest.raises(RequestError, match="knows no version 1"):
        exported(replace(place, environment="prod"))


def test_nothing_goes_out_where_there_is_no_key(place: Tools) -> None:
    released(place)

    with pytest.raises(ConfigurationError, match="no key to sign bundles with"):
        exported(replace(place, signing_key=lambda: None))


# --- The channel -----------------------------------------------------------------------------------------------------


def test_releases_and_a_rollback_reach_the_devices_of_a_channel(place: Tools, tmp_path: Path) -> None:
    target = {"backend": "bundle", "folder": str(tmp_path / "channels"), "onnx": True}
    channel, state = tmp_path / "channels/flights/stable", tmp_path / "device.json"
    seen = []
    for number in (1, 2):
        job = decided(place, version_of(place, number))
        deployed = deploy(job.model_copy(update={"target": target}), place)
        assert deployed is not None
        seen.append(follow(channel, KEY, state=state).manifest)
    order = RunRequest(model="flights", stream="rollback", reason="bad", requester="eve")

    back = roll_back(RollbackJob(request=order), place)

    seen.append(follow(channel, KEY, state=state).manifest)
    assert back.traffic == {"1": 100}
    assert [told["version"] for told in seen] == [1, 2, 1]
    assert seen[2]["decision_id"] == seen[0]["decision_id"] != seen[1]["decision_id"]
    assert seen[2]["dataset_fingerprint"] == version_of(place, 1).dataset_fingerprint


# --- The commands ----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_file_that_the_other_one_finds_whole(
    place: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    released(place)
    (tmp_path / "key.pub").write_text(f"release {KEY}\n")
    verify = ["bundle", "verify", str(tmp_path / "flights.zip"), "--key", str(tmp_path / "key.pub")]

    codes = [command(tmp_path, "--version", "1", "--by", "eve", "--json")]
    made = json.loads(capsys.readouterr().out)
    codes += [main(verify), main([*verify, "--environment", "prod"])]
    said = capsys.readouterr().out

    assert codes == [0, 0, 1]
    assert (made["uri"], made["formats"]) == ("", ["skops"])
    assert "ok: flights version 1" in said
    assert "it was approved for 'test', not 'prod'" in said
    assert place.ledger.results("test", "flights", "export", sha256=made["sha256"])


def test_a_changed_file_does_not_hold(place: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released(place)
    command(tmp_path, "--version", "1")
    path = tmp_path / "flights.zip"
    path.write_bytes(path.read_bytes().replace(b"golden.parquet", b"golden.parkett", 1))
    (tmp_path / "key.pub").write_text(KEY)

    capsys.readouterr()

    code = main(["bundle", "verify", str(path), "--key", str(tmp_path / "key.pub"), "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["holds"], told["bundle"]) == (1, False, None)
    assert told["problem"]


def test_without_the_libraries_nobody_knows_how_it_answers(
    place: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released(place)
    command(tmp_path, "--version", "1")
    (tmp_path / "key.pub").write_text(KEY)
    monkeypatch.setitem(sys.modules, "skops.io", None)

    code = main(["bundle", "verify", str(tmp_path / "flights.zip"), "--key", str(tmp_path / "key.pub")])

    assert code == 2
    assert "signature and bytes hold, and nobody knows how it answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "message"), [("1", "nobody has approved it"), ("0", "0 is no version"), ("9", "9")]
)
def test_the_command_refuses_in_a_sentence(
    place: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, message: str
) -> None:
    assert command(tmp_path, "--version", version) == 64
    assert message in capsys.readouterr().err
    assert not (tmp_path / "flights.zip").exists()


def test_an_absent_file_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key.pub").write_text(KEY)

    assert main(["bundle", "verify", str(tmp_path / "none.zip"), "--key", str(tmp_path / "key.pub")]) == 64
    assert "there is no such file" in capsys.readouterr().err


def test_the_loader_is_handed_out_alone(tmp_path: Path) -> None:
    assert main(["export", "loader", "--out", str(tmp_path / "loader.py")]) == 0

    assert "def open_bundle(" in (tmp_path / "loader.py").read_text()
