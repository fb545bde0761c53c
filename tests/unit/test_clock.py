"""The clock that a process reckons the server's time by."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.clock import DRIFT, ROUNDED_S, SLOWED, ServerClock

HOURS_S = 2 * 3600.0
NOON_S = 1_767_268_800.0


class Hand:
    """A clock that a test moves."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def now_s(self) -> float:
        return self.at_s


@dataclass
class Machine:
    """A process's own clock, how far it is off, and the server's time that it does not see."""

    own: Hand
    server_s: float = NOON_S

    def pass_s(self, span_s: float, *, drift: float = 1.0) -> None:
        self.own.at_s += span_s * drift
        self.server_s += span_s

    def ask(self, clock: ServerClock, there_s: float = 0.0, back_s: float = 0.0) -> None:
        asked_s = clock.own_s()
        self.pass_s(there_s)
        answer_s = self.server_s
        self.pass_s(back_s)
        clock.hear(answer_s, asked_s=asked_s, answered_s=clock.own_s())


def machine(off_s: float) -> Machine:
    return Machine(Hand(NOON_S + off_s))


def test_nothing_is_heard_yet_and_it_shows_its_own_time() -> None:
    at = machine(HOURS_S)

    assert ServerClock(at.own).now_s() == NOON_S + HOURS_S


@pytest.mark.parametrize("off_s", [HOURS_S, -HOURS_S, 0.5])
def test_the_first_answer_sets_it_forward_or_back_and_never_ahead_of_the_server(off_s: float) -> None:
    at = machine(off_s)
    clock = ServerClock(at.own)
    clock.now_s()

    at.ask(clock, 0.4, 0.01)

    assert -0.01 - ROUNDED_S <= clock.now_s() - at.server_s <= ROUNDED_S


def test_an_answer_that_took_long_does_not_spoil_a_clock_that_is_right() -> None:
    at = machine(0.0)
    clock = ServerClock(at.own)

    at.ask(clock, 5.0, 0.0)
    at.ask(clock, 0.0, 5.0)

    assert at.server_s - 10 * DRIFT <= clock.now_s() <= at.server_s


def test_a_machine_that_slept_is_right_with_the_next_answer() -> None:
    at = machine(0.0)
    clock = ServerClock(at.own)
    at.ask(clock)

    at.pass_s(HOURS_S, drift=0.0)
    at.ask(clock)

    assert abs(clock.now_s() - at.server_s) <= ROUNDED_S


def test_a_clock_that_is_ahead_goes_at_half_the_speed_until_it_is_right() -> None:
    at = machine(0.0)
    clock = ServerClock(at.own)
    at.ask(clock)
    at.server_s -= 10
    at.ask(clock)

    shown = [clock.now_s() - NOON_S]
    for _ in range(4):
        at.pass_s(8)
        shown.append(clock.now_s() - NOON_S)

    assert SLOWED == 0.5
    assert [round(at_s, 2) for at_s in shown] == [0, 4, 8, 14, 22]


def test_nothing_is_known_of_the_time_that_an_answer_took() -> None:
    at = machine(HOURS_S)
    clock = ServerClock(at.own)

    at.ask(clock, 0.1, 0.2)

    assert clock.known_to_s == pytest.approx(0.3)
    assert clock.now_s() == pytest.approx(at.server_s - 0.2)
    assert clock.after(5.0) == pytest.approx(at.server_s + 0.1 + 5.0)

    at.ask(clock, 0.01, 0.02)

    assert clock.known_to_s == pytest.approx(0.03, abs=1e-4)


answers = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=5)
"""When each comes after the one before, and how long question and answer are on their way."""

drifts = st.floats(1 - DRIFT / 2, 1 + DRIFT / 2)


@given(
    st.floats(-HOURS_S, HOURS_S), st.floats(-HOURS_S, HOURS_S), answers, answers, drifts, drifts, st.floats(0.001, 60)
)
def test_what_one_process_sets_and_another_one_waits_for_is_never_early(
    one_off_s: float,
    other_off_s: float,
    one_hears: list[tuple[float, float, float]],
    other_hears: list[tuple[float, float, float]],
    one_drifts: float,
    other_drifts: float,
    delay_s: float,
) -> None:
    def heard(off_s: float, hears: list[tuple[float, float, float]], drift: float) -> tuple[ServerClock, Machine]:
        at = machine(off_s)
        clock = ServerClock(at.own)
        for pause_s, there_s, back_s in hears:
            at.ask(clock, there_s, back_s)
            at.pass_s(pause_s, drift=drift)
        at.ask(clock, 0.1, 0.2)
        return clock, at

    setter, here = heard(one_off_s, one_hears, one_drifts)
    until_s, true_s = setter.after(delay_s), here.server_s + delay_s
    waiter, there = heard(other_off_s, other_hears, other_drifts)
    there.pass_s(max(0.0, until_s - waiter.now_s()))

    assert until_s >= true_s - 10 * ROUNDED_S
    assert waiter.now_s() <= there.server_s + 10 * ROUNDED_S


moves = st.one_of(
    st.tuples(st.just("pass"), st.floats(0, 100), st.floats(0.9, 1.1)),
    st.tuples(st.just("ask"), st.floats(0, 3), st.floats(0, 3)),
    st.tuples(st.just("server"), st.floats(-50, 50), st.just(0.0)),
    st.tuples(st.just("own"), st.floats(-50, 50), st.just(0.0)),
)


@given(st.floats(-HOURS_S, HOURS_S), st.lists(moves, max_size=30))
def test_it_never_goes_back_and_comes_to_the_servers_time(
    off_s: float, happens: list[tuple[str, float, float]]
) -> None:
    at = machine(off_s)
    clock = ServerClock(at.own)
    at.ask(clock)
    shown = [clock.now_s()]

    for what, first, second in happens:
        match what:
            case "pass":
                at.pass_s(first, drift=second)
            case "ask":
                at.ask(clock, first, second)
            case "server":
                at.server_s += first
            case "own":
                at.own.at_s += first
        shown.append(clock.now_s())
    at.ask(clock)
    at.pass_s(10_000)

    assert shown == sorted(shown)
    assert abs(clock.now_s() - at.server_s) <= 2 * ROUNDED_S
