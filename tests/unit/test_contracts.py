from __future__ import annotations

import hashlib
import math

import pytest
from pydantic import ValidationError

from ml_lifecycle.core.contracts import Columns, Contract, HoldoutSpec, Metric, RunRequest, Verdict, digest_of


class Later(Columns):
    """``Columns`` as a later version of this package may know it."""

    group: str | None = None


def test_a_digest_can_be_worked_out_without_this_package() -> None:
    digest = Columns(key="id", target="late").content_digest()

    assert digest == hashlib.sha256(b'{"key":"id","target":"late"}').hexdigest()


def test_a_field_that_is_added_later_changes_no_digest_taken_before() -> None:
    before = Columns(key="id", time="at")

    after = Later.model_validate(before.to_xcom())

    assert after.content_digest() == before.content_digest()
    assert Later(key="id", time="at", group="crew").content_digest() != before.content_digest()


def test_the_order_in_which_values_were_written_does_not_matter() -> None:
    assert digest_of({"b": 1, "a": [1, 2]}) == digest_of({"a": [1, 2], "b": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])


def test_a_contract_comes_back_from_plain_json_as_it_was() -> None:
    request = RunRequest(model="flights", partitions=("2013-01", "2013-02"), hyperparameters={"max_iter": 80})

    assert RunRequest.model_validate(request.to_xcom()) == request


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Metric(value=value, rows=1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of(value)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.1])
def test_a_holdout_is_a_part_of_the_rows(share: float) -> None:
    with pytest.raises(ValidationError):
        HoldoutSpec(share=share)


@pytest.mark.parametrize("name", ["", "Flights", "a b", "flights\n", "../x", "fl\u0456ghts", "a" * 64, "<img>"])
def test_a_model_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValidationError):
        RunRequest(model=name)


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        ([], Verdict.INCONCLUSIVE),
        ([Verdict.PASS], Verdict.PASS),
        ([Verdict.PASS, Verdict.INCONCLUSIVE], Verdict.INCONCLUSIVE),
        ([Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.PASS], Verdict.FAIL),
    ],
)
def test_one_failure_fails_the_whole_and_of_nothing_nothing_is_known(verdicts: list[Verdict], worst: Verdict) -> None:
    assert Verdict.worst(verdicts) is worst


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Columns.model_validate({"key": "id", "colour": "blue"})
    assert issubclass(Columns, Contract)
