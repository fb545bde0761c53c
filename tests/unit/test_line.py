"""Who is tried beside whom: poison is found within its attempts, and nobody is given up for having stood beside it."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.engine.cursor import Mark, Tried
from hocket.engine.line import Line, placed

WIDTH_MAX = 256


@dataclass(slots=True)
class World:
    """Events that a process had in hand when it was killed, and what becomes of them under those after it."""

    keys: list[int]
    """By event: those of one key are handled one after the other."""

    poison: set[int]
    attempts_max: list[int]
    """By event."""

    width_max: int
    handled: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    ends: Counter[int] = field(default_factory=Counter)
    """How many processes have ended while they were tried."""

    beside: dict[int, set[int]] = field(default_factory=dict)
    """Who else was tried when that happened last."""

    @property
    def open(self) -> list[int]:
        """Who is neither handled nor given up."""
        return [seq for seq in range(len(self.keys)) if seq not in self.handled and seq not in self.given_up]

    def tried_until_all_is_done(self, chance: random.Random) -> None:
        """Let one process follow another, in whatever order they come to what they do."""
        mark = Mark(upto=len(self.keys))
        while self.open:
            mark = self._life(mark, chance).taken_over(self.open, unclean=True)

    def _life(self, mark: Mark, chance: random.Random) -> Mark:
        """What the log says when the process ends, or when all is done."""
        tried = {each.seq: each for each in mark.tried}
        peers, line, at_work = Counter(each.ends for each in mark.tried), Line(), list[int]()
        joined = set[int]()
        while True:
            self._join(line, tried, peers, joined)
            for place in line.begin():
                at_work.append(place.seq)
                tried[place.seq] = tried.get(place.seq, Tried(place.seq, 0, True))._replace(begun=True)
            if not at_work:
                return Mark(len(self.keys), (), tuple(tried.values()))
            seq = chance.choice(at_work)
            if chance.random() < 0.25 and seq in line._at_work:
                line.late(seq)
            elif seq in self.poison:
                for each in at_work:
                    self.ends[each] += 1
                    self.beside[each] = set(at_work) - {each}
                return Mark(len(self.keys), (), tuple(tried.values()))
            else:
                at_work.remove(seq)
                line.leave(seq)
                tried.pop(seq)
                self.handled.append(seq)

    def _join(self, line: Line, tried: dict[int, Tried], peers: Counter[int], joined: set[int]) -> None:
        """Let the next of each key come, if that is not in hand already."""
        firsts: dict[int, int] = {}
        for seq in self.open:
            ends = tried[seq].ends if seq in tried else 0
            left = max(2, self.attempts_max[seq]) - ends
            if self.keys[seq] in firsts:
                continue
            if left == 0:
                self.given_up.append(seq)
                continue
            firsts[self.keys[seq]] = seq
            if seq not in joined:
                joined.add(seq)
                line.join(
                    placed(seq, ends=ends, attempts_left=left, peers=max(1, peers[ends]), width_max=self.width_max)
                )


@given(st.data())
def test_poison_is_given_up_within_its_attempts_and_nobody_else_ever_is(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    some = st.sampled_from(range(count))
    world = World(
        keys=data.draw(st.lists(st.integers(0, 30), min_size=count, max_size=count)),
        poison=data.draw(st.sets(some, max_size=5)),
        attempts_max=data.draw(st.lists(st.integers(1, 6), min_size=count, max_size=count)),
        width_max=data.draw(st.integers(1, 50)),
    )

    world.tried_until_all_is_done(random.Random(data.draw(st.integers(0))))

    assert sorted(world.given_up) == sorted(world.poison)
    assert all(world.ends[seq] == max(2, world.attempts_max[seq]) for seq in world.poison)
    assert all(world.beside[seq] == set() for seq in world.poison), "its last attempt was alone"


@pytest.mark.parametrize("attempts_max", [2, 3, 5, 20])
@pytest.mark.parametrize("count", [1, 2, 10, 256, 2000])
def test_what_ends_together_is_tried_in_ever_smaller_parts_and_alone_in_the_end(count: int, attempts_max: int) -> None:
    widths, peers = list[int](), count
    for ends in range(1, attempts_max):
        left = attempts_max - ends
        peers = placed(0, ends=ends, attempts_left=left, peers=peers, width_max=2000).width
        widths.append(peers)

    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 1
    assert widths[0] >= int(count ** (1 - 1 / (attempts_max - 1))), "not in smaller ones than need be"


def test_no_more_are_tried_at_once_than_each_of_them_allows() -> None:
    line, begun = Line(), list[int]()
    for seq in range(10):
        line.join(placed(seq, ends=1, attempts_left=2, peers=10, width_max=WIDTH_MAX))
    line.join(placed(10, ends=0, attempts_left=3, peers=1, width_max=2))

    while places := [place.seq for place in line.begin()]:
        begun.append(len(places))
        for seq in places:
            line.leave(seq)

    assert begun == [2, 3, 3, 3]


def test_those_that_have_ended_the_fewest_come_first_and_last_attempts_after_all_others() -> None:
    line, order = Line(), list[int]()
    for seq, ends, left in [(1, 1, 1), (2, 3, 2), (3, 2, 3), (4, 1, 4), (5, 2, 3), (6, 0, 5)]:
        line.join(placed(seq, ends=ends, attempts_left=left, peers=1, width_max=WIDTH_MAX))

    while places := [place.seq for place in line.begin()]:
        order += places
        for seq in places:
            line.leave(seq)

    assert order == [6, 4, 3, 5, 2, 1]


def test_one_that_takes_very_long_holds_up_nobody_but_last_attempts_and_those_hold_up_everybody() -> None:
    line, begun = Line(), list[list[int]]()

    def join(seq: int, attempts_left: int) -> None:
        line.join(placed(seq, ends=1, attempts_left=attempts_left, peers=1, width_max=WIDTH_MAX))

    def begin() -> None:
        begun.append([place.seq for place in line.begin()])

    for seq, attempts_left in [(1, 2), (2, 2), (3, 1)]:
        join(seq, attempts_left)
    begin()
    for change in [lambda: line.late(1), lambda: line.leave(2), lambda: line.leave(1)]:
        change()
        begin()
    join(4, 2)
    for change in [lambda: line.late(3), lambda: line.leave(3)]:
        change()
        begin()

    assert begun == [[1], [2], [], [3], [], [4]]
