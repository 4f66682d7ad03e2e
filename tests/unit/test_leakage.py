"""An input that holds the answer is pointed out to a person."""

from __future__ import annotations

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.evaluation.leakage import signs_of_leakage

COUNT = 400
RNG = np.random.default_rng(7)
LATE = pd.Series(RNG.random(COUNT) < 0.3)
SHUFFLED = pd.Series(RNG.permutation(COUNT), name="id")
HONEST = pd.Series(LATE + RNG.normal(size=COUNT))


def signs(target: pd.Series = LATE, keys: pd.Series = SHUFFLED, **features: object) -> tuple[str, ...]:
    return signs_of_leakage(pd.DataFrame(features), target, keys)


def test_honest_inputs_are_left_alone() -> None:
    assert signs(distance=HONEST, carrier=RNG.choice(["AA", "B6"], COUNT), constant=1.0) == ()


@pytest.mark.parametrize("turn", [1, -1])
def test_a_number_that_tells_the_classes_apart_is_pointed_out(turn: int) -> None:
    found = signs(distance=HONEST, delay=turn * (LATE * 30 + RNG.random(COUNT)))

    area = "1.000" if turn == 1 else "0.000"
    told = f"the input 'delay' tells 'True' from the rest by itself (ROC AUC {area})"
    assert found == (f"{told}; check that it is known before the prediction is made",)


def test_the_target_itself_is_pointed_out() -> None:
    assert len(signs(copy=LATE)) == 1
    assert len(signs(target=LATE.map({True: "late", False: "no"}), copy=LATE.map({True: "x", False: "y"}))) == 1


def test_an_input_that_is_missing_only_where_the_answer_is_no_is_pointed_out() -> None:
    arrival = pd.Series(np.where(LATE, RNG.random(COUNT), np.nan))

    assert "'arrival' tells 'True' from the rest" in signs(arrival=arrival)[0]


def test_a_category_that_determines_the_target_is_pointed_out() -> None:
    status = pd.Series(RNG.choice(["held", "diverted"], COUNT)).where(LATE)

    assert "'status' determines the target" in signs(status=status)[0]


def test_a_category_of_single_rows_determines_nothing() -> None:
    assert signs(tail=[f"N{number}" for number in range(COUNT)]) == ()


def test_a_category_beside_one_class_alone_determines_nothing() -> None:
    rare = pd.Series(np.arange(COUNT) < 20)
    carrier = np.where(np.arange(COUNT) < 40, "B6", "AA")

    assert signs(target=rare, carrier=carrier) == ()


def test_keys_that_follow_the_target_are_pointed_out() -> None:
    keys = pd.Series(LATE.astype(int) * COUNT + np.arange(COUNT), name="id").map("f{:05d}".format)

    told = "the key 'id' tells 'True' from the rest by itself (ROC AUC 1.000)"
    assert signs(keys=keys.rename("id"), distance=HONEST) == (f"{told}: rows may have been numbered by their answer",)


def test_a_number_that_follows_a_target_of_numbers_is_pointed_out() -> None:
    minutes = pd.Series(RNG.normal(size=COUNT))

    found = signs(target=minutes, seconds=-60 * minutes, noise=RNG.normal(size=COUNT))

    assert len(found) == 1
    assert "'seconds' follows the target (rank correlation -1.000)" in found[0]


def test_one_of_several_classes_told_by_a_number_is_pointed_out() -> None:
    kind = pd.Series(RNG.choice(["a", "b", "c"], COUNT))

    assert "'weight' tells 'c' from the rest" in signs(target=kind, weight=(kind == "c") + RNG.random(COUNT) / 2)[0]


@pytest.mark.parametrize("target", [pd.Series([True, False] * 10), pd.Series([True] * 3 + [False] * 97)])
def test_too_few_rows_say_nothing(target: pd.Series) -> None:
    keys = pd.Series(range(len(target)), name="id")

    assert signs_of_leakage(pd.DataFrame({"copy": target}), target, keys) == ()


def test_of_many_rows_a_part_is_read() -> None:
    late = pd.Series(np.arange(100_000) % 3 == 0)
    keys = pd.Series(np.random.default_rng(1).permutation(len(late)), name="id")

    assert len(signs_of_leakage(pd.DataFrame({"copy": late}), late, keys)) == 1
