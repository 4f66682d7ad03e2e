from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.answers import sign_answer
from ml_lifecycle.backends.signing.keys import generated
from ml_lifecycle.core.answers import OpenAsk, answer_to
from ml_lifecycle.core.provenance import PAYLOAD_TYPE
from ml_lifecycle.stages.provenance import ProvenanceJob, provenance
from tests.fakes.asking import ADA, BOB, question
from tests.fakes.told_release import candidate, deployment_below, release

KEY, OTHER = generated(), generated()
Verify = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a release's statement, and all that it can be held against."""
    folder = tmp_path_factory.mktemp("verify")
    tools = deployment_below(folder / "site", KEY)
    deployed = release(tools, candidate(tools))
    told = provenance(ProvenanceJob(deployment=deployed), tools)
    assert told is not None
    shutil.copyfile(folder / "site/data" / told.uri, folder / "1.dsse.json")
    tools.tracking.download(deployed.champion.uri, folder / "model")
    shutil.copytree(folder / "site/data/datasets/one", folder / "data")
    main(["audit", "export", "--ledger", f"sqlite:///{folder / 'site/ledger.db'}", "-o", str(folder / "audit.jsonl")])
    (folder / "release.pub").write_text(f"release {KEY.public.text}\n")
    (folder / "other.pub").write_text(f"other {OTHER.public.text}\n")
    (folder / "keys.json").write_text(json.dumps({"ada": ADA.public.text, "bob": BOB.public.text}))
    return folder


@pytest.fixture
def folder(released: Path, tmp_path: Path) -> Path:
    """The same, for one test to change."""
    shutil.copytree(released, tmp_path / "held", ignore=shutil.ignore_patterns("site"))
    return tmp_path / "held"


@pytest.fixture
def verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> Verify:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["verify", *(part.replace("~", str(folder)) for part in arguments)])
        return code, *capsys.readouterr()

    return run


def against(*more: str, key: str = "~/release.pub") -> tuple[str, ...]:
    return ("~/1.dsse.json", "--key", key, *more)


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The payload changed, the signature left as it was."""
    content = json.loads(path.read_text())
    payload = json.loads(base64.b64decode(content["payload"]))
    change(payload)
    content["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    path.write_text(json.dumps(content))


def signed_anew(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """As whoever holds the right key could write it."""
    payload = json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))
    change(payload)
    path.write_text(dsse.seal(json.dumps(payload).encode(), PAYLOAD_TYPE, KEY))


# --- A statement -----------------------------------------------------------------------------------------------------


def test_a_release_is_held_against_everything(verify: Verify) -> None:
    code, out, error = verify(
        *against("--model", "~/model", "--data", "~/data", "--audit", "~/audit.jsonl", "--environment", "test")
    )

    assert (code, error) == (0, "")
    assert [line[:3] for line in out.splitlines()[:-1]] == ["ok:"] * 6
    assert "flights version 1 became champion of test at epoch 1" in out
    assert "approved by bert, carl" in out
    assert out.endswith("1.dsse.json holds\n")


def test_the_result_is_plain_json_where_that_is_asked_for(verify: Verify) -> None:
    code, out, _ = verify(*against("--data", "~/model", "--json"))

    content = json.loads(out)
    assert (code, content["holds"], len(content["checks"])) == (1, False, 3)
    assert content["checks"][0]["problems"] == []
    assert "its fingerprint is" in content["checks"][2]["problems"][0]


def test_a_statement_under_another_key_does_not_hold(verify: Verify) -> None:
    code, out, _ = verify(*against("--model", "~/model", key="~/other.pub"))

    assert code == 1
    assert "none of its signatures" in out
    assert "champion" not in out


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["predicate"]["move"].update(version=2),
        lambda told: told["predicate"]["move"].update(environment="prod"),
        lambda told: told["predicate"]["decision"].update(votes=[]),
        lambda told: told["subject"].pop(),
    ],
)
def test_a_statement_that_was_edited_does_not_hold(
    verify: Verify, folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    edited(folder / "1.dsse.json", change)

    code, out, _ = verify(*against())

    assert (code, "none of its signatures" in out) == (1, True)


def test_a_signed_statement_that_contradicts_itself_does_not_hold(verify: Verify, folder: Path) -> None:
    signed_anew(folder / "1.dsse.json", lambda told: told["predicate"]["move"].update(environment="prod"))

    code, out, _ = verify(*against())

    assert (code, "in test, not about this move" in out) == (1, True)


def test_a_statement_of_another_environment_does_not_hold(verify: Verify) -> None:
    code, out, _ = verify(*against("--environment", "prod"))

    assert (code, "it is about test" in out) == (1, True)


def test_other_bytes_do_not_hold(verify: Verify, folder: Path) -> None:
    (folder / "model/package.json").write_text("{}")
    (folder / "model/link").symlink_to("package.json")

    code, out, _ = verify(*against("--model", "~/model"))
    (folder / "model/link").unlink()
    second, told, _ = verify(*against("--model", "~/model"))

    assert (code, "link or a special file" in out) == (1, True)
    assert (second, "the bytes of flights/1/package.json are not those that were released" in told) == (1, True)


def test_an_audit_with_a_changed_row_does_not_hold(verify: Verify, folder: Path) -> None:
    audit = folder / "audit.jsonl"
    audit.write_text(audit.read_text().replace('"actor": "carl"', '"actor": "eve"'))

    code, out, _ = verify(*against("--audit", "~/audit.jsonl"))

    assert (code, "it was changed" in out) == (1, True)


def test_an_audit_that_lacks_the_release_does_not_hold(verify: Verify, folder: Path) -> None:
    audit = folder / "audit.jsonl"
    lines = audit.read_text().splitlines(keepends=True)
    audit.write_text("".join(lines[: next(i for i, line in enumerate(lines) if '"release"' in line)]))

    code, out, _ = verify(*against("--audit", "~/audit.jsonl"))

    assert code == 1
    assert "no row of the audit says that carl moved flights to version 1" in out


def test_an_audit_of_another_model_does_not_hold(verify: Verify, folder: Path) -> None:
    audit = folder / "audit.jsonl"
    audit.write_text(audit.read_text().replace('"model": "flights"', '"model": "trains"'))

    assert verify(*against("--audit", "~/audit.jsonl"))[0] == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("~/absent", "--key", "~/release.pub"), "cannot be read"),
        (("~/release.pub", "--key", "~/release.pub"), "no plain JSON"),
        (("~/keys.json", "--key", "~/release.pub"), "no signed envelope"),
        (against(key="~/absent"), "cannot be read"),
        (against(key="~/1.dsse.json"), "no Ed25519 public key"),
        (("~/1.dsse.json",), "--key is missing"),
        (("~/1.dsse.json", "--keys", "~/keys.json"), "--keys says nothing about a release's statement"),
        (against("--model", "~/absent"), "no such folder"),
        (against("--audit", "~/release.pub"), "no plain JSON"),
    ],
)
def test_inputs_that_cannot_be_used_end_with_64(verify: Verify, arguments: tuple[str, ...], why: str) -> None:
    code, out, error = verify(*arguments)

    assert (code, out) == (64, "")
    assert why in error


@pytest.mark.parametrize("share", [0.2, 0.7, 0.999])
def test_a_truncated_statement_cannot_be_used(verify: Verify, folder: Path, share: float) -> None:
    file = folder / "1.dsse.json"
    file.write_text(file.read_text()[: int(len(file.read_text()) * share)])

    assert verify(*against())[0] == 64


def test_a_signed_statement_of_another_kind_cannot_be_used(verify: Verify, folder: Path) -> None:
    signed_anew(folder / "1.dsse.json", lambda told: told.update(predicateType="https://slsa.dev/provenance/v1"))

    code, _, error = verify(*against())

    assert (code, "no statement about a release" in error) == (64, True)


def test_a_huge_file_cannot_be_used(verify: Verify, folder: Path) -> None:
    with (folder / "1.dsse.json").open("wb") as file:
        file.truncate(9 * 1024 * 1024)

    code, _, error = verify(*against())

    assert (code, "larger than" in error) == (64, True)


# --- An answer -------------------------------------------------------------------------------------------------------


def write_answer(folder: Path, *, person: str = "ada", hours: float = -1.0) -> None:
    now = datetime.now(timezone.utc)
    ask = question()
    asked = OpenAsk(ask_id=ask.ask_id, ask=ask, asked_at=now - timedelta(hours=2), expires_at=now + timedelta(hours=2))
    answer = answer_to(asked, outcome="approve", person=person, reason="", at=now + timedelta(hours=hours))
    (folder / "answer.json").write_text(sign_answer(answer, ADA))


def test_an_answer_is_verified_without_a_ledger(verify: Verify, folder: Path) -> None:
    write_answer(folder)

    code, out, _ = verify("~/answer.json", "--keys", "~/keys.json", "--environment", "prod")

    assert code == 0
    assert "ok: ada signed it" in out
    assert "approve to flights version 2 (aaaaaaaa) for prod, epoch 0" in out


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"person": "bob"}, "none of its signatures"),
        ({"person": "eve"}, "'eve' has no registered key"),
        ({"hours": 0.5}, "still to come"),
        ({"hours": -3.0}, "before the question was asked"),
    ],
)
def test_an_answer_that_does_not_hold_ends_with_one(
    verify: Verify, folder: Path, answer: dict[str, Any], why: str
) -> None:
    write_answer(folder, **answer)

    code, out, _ = verify("~/answer.json", "--keys", "~/keys.json")

    assert (code, why in out) == (1, True)


def test_an_answer_needs_its_own_options(verify: Verify, folder: Path) -> None:
    write_answer(folder)

    assert verify("~/answer.json")[0] == 64
    assert verify("~/answer.json", "--keys", "~/keys.json", "--model", "~/model")[0] == 64
