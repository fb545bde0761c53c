"""How often a service is started again: arithmetic on the times of its ends."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.host.restarts import Restarts

STEADY = Restarts(restarts_max=4, window_s=60, second_s=0.5, factor=3, longest_s=4, jitter=0)
ANY = random.Random(7)


def waits(policy: Restarts, ends_s: list[float]) -> list[float | None]:
    """What the policy says after each of these ends."""
    return [policy.wait_s(ends_s[: count + 1], ANY) for count in range(len(ends_s))]


def test_the_first_restart_is_at_once_and_each_later_one_waits_longer_until_it_is_given_up() -> None:
    assert waits(STEADY, [0, 1, 2, 3, 4]) == [0, 0.5, 1.5, 4, None]


def test_ends_that_lie_outside_of_the_window_are_forgotten() -> None:
    assert waits(STEADY, [0, 1, 2, 3, 63]) == [0, 0.5, 1.5, 4, 0]


def test_a_service_that_ends_now_and_then_is_never_given_up() -> None:
    assert set(waits(STEADY, [hour * 3600.0 for hour in range(500)])) == {0.0}


def test_a_policy_without_restarts_gives_up_at_the_first_end() -> None:
    assert waits(Restarts(restarts_max=0), [0]) == [None]


@given(st.integers(1, 10_000), st.randoms(use_true_random=False))
def test_no_wait_is_longer_than_the_longest_and_its_jitter(ends: int, rng: random.Random) -> None:
    policy = Restarts(restarts_max=10_000, longest_s=10, jitter=0.5)

    wait_s = policy.wait_s([0.0] * ends, rng)

    assert wait_s is not None
    assert wait_s <= 15


def test_services_that_end_in_step_do_not_start_in_step() -> None:
    rng = random.Random(1)

    starts_s = {Restarts(jitter=0.2).wait_s([0, 1, 2], rng) for _ in range(10)}

    assert len(starts_s) == 10


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        (Restarts(restarts_max=-1), "restarts_max is -1, wants 0 or more"),
        (Restarts(window_s=0), "window_s is 0, wants more than 0"),
        (Restarts(factor=0.5), "factor is 0.5, wants 1 or more"),
        (Restarts(blocked_s=-1), "blocked_s is -1, wants 0 or more"),
        (Restarts(restarts_max=0, second_s=0, longest_s=0, jitter=0, blocked_s=0), None),
    ],
)
def test_what_is_no_policy_says_why(policy: Restarts, complaint: str | None) -> None:
    assert policy.wrong == complaint
