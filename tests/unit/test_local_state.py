"""How one model's servers move on: by moves, and by what becomes of the servers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.backends.serving_home.state import (
    SLOTS,
    Counts,
    ModelState,
    Routing,
    Seen,
    Slot,
    SlotName,
    advanced,
    asked,
    deployed,
    restarted,
    retired,
)
from ml_lifecycle.core.contracts import Move

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def move(version: int, epoch: int, kind: Literal["release", "rollback"] = "release") -> Move:
    return Move(
        model="flights",
        environment="test",
        epoch=epoch,
        kind=kind,
        version=version,
        digest=str(version) * 64,
        uri="runs:/1/model",
        moved_by="ada",
        moved_at=NOW,
    )


def with_move(
    state: ModelState | None, version: int, epoch: int, kind: Literal["release", "rollback"] = "release"
) -> ModelState:
    fresh = Slot(version=version, digest=str(version) * 64, port=9000 + 10 * epoch + version)
    return deployed(state, move(version, epoch, kind), fresh, routing=Routing(), salt=f"salt {epoch}")


def sound(state: ModelState, **changes: Seen) -> Mapping[SlotName, Seen]:
    """Every server runs as it did, or begins to; but what the test says."""
    seen: dict[SlotName, Seen] = {name: Seen(pid=slot.pid or slot.port, sound=True) for name, slot in state.slots()}
    for name in SLOTS:
        if name in changes:
            seen[name] = changes[name]
    return seen


def settled(state: ModelState, **changes: Seen) -> ModelState:
    return advanced(state, sound(state, **changes), NOW)


def traffic(state: ModelState) -> dict[int, int]:
    return {slot.version: state.share_of(name) for name, slot in state.slots() if state.share_of(name)}


def alone(version: int = 1) -> ModelState:
    """Version 1 serves at epoch 1."""
    return settled(settled(asked(with_move(None, version, 1), 100)))


def beside(percent: int = 0) -> ModelState:
    """Version 2 beside it, at epoch 2, with a share."""
    state = settled(with_move(alone(), 2, 2))
    return settled(asked(state, percent)) if percent else state


def test_a_version_serves_only_once_its_server_answered_with_its_digest() -> None:
    state = asked(with_move(None, 1, 1), 100)

    waiting = advanced(state, {"blue": Seen(pid=7)}, NOW)
    answering = settled(settled(waiting))

    assert (traffic(waiting), traffic(answering)) == ({}, {1: 100})


def test_a_new_version_waits_in_the_other_slot() -> None:
    state = beside()

    assert (traffic(state), state.new, state.share) == ({1: 100}, "green", 0)


def test_shares_move_between_the_two() -> None:
    assert [traffic(beside(percent)) for percent in (10, 50, 100)] == [{1: 90, 2: 10}, {1: 50, 2: 50}, {2: 100}]


def test_users_are_shared_out_anew_for_each_rollout_and_stay_within_one() -> None:
    state = beside(50)

    assert (state.salt, settled(asked(state, 100)).salt) == ("salt 2", "salt 2")
    assert with_move(state, 3, 3).salt == "salt 3"


def test_what_serves_alone_gets_everything() -> None:
    assert traffic(settled(asked(alone(), 10))) == {1: 100}


def test_a_version_that_never_served_takes_nothing_beside_it() -> None:
    state = settled(with_move(settled(with_move(None, 1, 1)), 2, 2))

    assert traffic(settled(asked(state, 10))) == {2: 100}


def test_a_third_version_takes_the_place_of_one_that_serves_nobody() -> None:
    done = beside(100)

    state = settled(with_move(done, 3, 3))

    assert {slot.version for _, slot in state.slots()} == {2, 3}
    assert traffic(state) == {2: 100}


def test_a_third_version_in_the_middle_takes_the_place_of_the_unfinished_one() -> None:
    state = settled(with_move(beside(50), 3, 3))

    assert {slot.version for _, slot in state.slots()} == {1, 3}
    assert traffic(state) == {1: 100}


# --- When a server dies ----------------------------------------------------------------------------------------------


def dead() -> Seen:
    return Seen(pid=0, dead="exited")


def test_a_new_version_that_dies_loses_its_traffic_at_any_step() -> None:
    for percent in (0, 10, 50, 100):
        state = settled(beside(percent), green=dead())

        assert traffic(state) == {1: 100}
        assert state.green is not None
        assert "version 2" in state.green.fault
        assert state.fault_at == NOW


def test_a_new_version_that_hangs_loses_its_traffic() -> None:
    before = beside(50)
    pid = before.green.pid if before.green else 0

    state = settled(before, green=Seen(pid=pid, down=True))

    assert traffic(state) == {1: 100}


def test_a_server_that_answers_with_another_digest_gets_nothing() -> None:
    assert traffic(settled(beside(50), green=Seen(pid=9022, foreign=True))) == {1: 100}


def test_a_version_that_died_gets_nothing_again_under_the_same_move() -> None:
    state = settled(beside(50), green=dead())

    again = settled(asked(with_move(state, 2, 2), 50))

    assert traffic(again) == {1: 100}
    assert again.green is not None
    assert again.green.fault


def test_a_newer_move_gives_a_version_that_died_another_chance() -> None:
    state = settled(beside(50), green=dead())

    again = settled(asked(settled(with_move(state, 2, 3)), 50))

    assert traffic(again) == {1: 50, 2: 50}


def test_the_champion_is_left_alone_when_nothing_can_take_over() -> None:
    state = settled(alone(), blue=dead())

    assert traffic(state) == {1: 100}
    assert state.blue is not None
    assert not state.blue.fault


def test_the_old_version_keeps_its_share_when_it_is_the_one_that_dies() -> None:
    assert traffic(settled(beside(10), blue=dead())) == {1: 90, 2: 10}


def test_nothing_is_taken_from_the_new_version_while_the_old_one_is_down_too() -> None:
    assert traffic(settled(beside(50), blue=dead(), green=dead())) == {1: 50, 2: 50}


def test_what_was_rolled_back_from_takes_over_no_more() -> None:
    state = settled(asked(with_move(beside(50), 1, 3, "rollback"), 100))

    after = settled(state, blue=dead())

    assert (traffic(state), traffic(after)) == ({1: 100}, {1: 100})
    assert (state.weight_of("blue"), state.weight_of("green")) == (1, 0)


def test_the_version_before_is_there_for_what_the_new_one_does_not_answer() -> None:
    state = beside(100)

    assert (state.weight_of("blue"), state.weight_of("green")) == (1, 1)


def test_a_version_that_was_never_sent_anything_answers_for_nobody() -> None:
    assert beside().weight_of("green") == 0


def test_a_server_that_does_not_start_is_told() -> None:
    state = advanced(with_move(alone(), 2, 2), {"blue": Seen(pid=9011, sound=True), "green": dead()}, NOW)

    assert state.green is not None
    assert "does not start: exited" in state.green.fault
    assert traffic(state) == {1: 100}


def test_after_the_machine_began_anew_nobody_has_died() -> None:
    state = settled(restarted(beside(50)))

    assert traffic(state) == {1: 50, 2: 50}
    assert not any(slot.fault for _, slot in state.slots())


# --- Retiring and counting -------------------------------------------------------------------------------------------


def test_what_gets_no_traffic_is_retired_and_the_rest_stays() -> None:
    assert {slot.version for _, slot in retired(beside(100), 2).slots()} == {2}
    assert {slot.version for _, slot in retired(beside(50), 2).slots()} == {1, 2}


def test_a_dead_new_version_is_retired_for_the_old_one() -> None:
    state = retired(settled(beside(50), green=dead()), 1)

    assert {slot.version for _, slot in state.slots()} == {1}
    assert (traffic(state), state.new) == ({1: 100}, "blue")


def test_counting_begins_anew_when_the_share_is_set_and_not_when_it_stays() -> None:
    state = asked(beside(), 50)
    counts = {"green": Seen(pid=9022, sound=True, counts=Counts(tried=7, answered=7))}

    first = settled(state, **counts)
    later = settled(asked(first, 50), green=Seen(pid=9022, sound=True, counts=Counts(tried=9, answered=9)))

    assert first.green is not None
    assert first.green.counted.tried == 7
    assert later == first


EVENTS: Any = st.lists(
    st.one_of(
        st.tuples(st.just("deploy"), st.integers(1, 3)),
        st.tuples(st.just("ask"), st.integers(0, 100)),
        st.tuples(st.just("die"), st.sampled_from(SLOTS)),
        st.tuples(st.just("settle"), st.none()),
        st.tuples(st.just("retire"), st.integers(1, 3)),
    ),
    max_size=25,
)


@given(EVENTS)
def test_whatever_happens_shares_add_up_and_a_dead_version_gets_none(events: list[tuple[str, Any]]) -> None:
    state = alone()
    for epoch, (what, value) in enumerate(events, start=2):
        if what == "deploy":
            state = with_move(state, value, epoch)
        elif what == "ask":
            state = asked(state, value)
        elif what == "retire":
            state = retired(state, value)
        elif what == "die" and state.slot(value) is not None:
            state = settled(state, **{value: dead()})
        else:
            state = settled(state)

        assert sum(state.share_of(name) for name in SLOTS) == (0 if state.share is None else 100)
        assert all(state.share_of(name) == 0 and state.weight_of(name) == 0 for name, one in state.slots() if one.fault)


def test_a_champion_that_does_not_start_after_a_restart_keeps_its_traffic() -> None:
    state = settled(restarted(alone()), blue=dead())

    assert traffic(state) == {1: 100}
    assert state.blue is not None
    assert not state.blue.fault
