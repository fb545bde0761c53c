"""Whether the promises were kept, key by key and saga by saga: each is judged when it is over, and then forgotten.

Nothing in here asks the engine. It is told what clients were told, what the log holds in its order, what states say,
and what the world outside has in its ledger.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.fault.campaign.agents import APPROVAL_S
from tests.fault.campaign.events import DEADLINE_S, UNDO_WITHIN_S

EARLY_S = 0.002
LATE_S = 2.0
ANSWER_S = 1.5
"""What an answer may take beyond the bound that was asked for."""

REST_S = 3.0
"""So much of the log is read after the last of a key before it is judged, by the log's own time."""

LOST_S = 120.0
"""What was not handled for so long, by the log's time and with every fault healed within 40 s, is lost."""

SAGA_S = DEADLINE_S + UNDO_WITHIN_S + 120.0
"""A saga that has not ended after this is forgotten by those who should see to it."""

SETTLE_S = 8.0
"""After its end a saga's ledger may still hear of calls that were on their way."""

SHOWN_MAX = 200


class Violation(NamedTuple):
    """A promise that was not kept."""

    invariant: str
    text: str
    at_s: float


class Fact(NamedTuple):
    """An event or a command as the log has it."""

    seq: int
    kind: str
    type: str
    key: str
    agent: str
    """Who published it; of a command whom it is for."""

    id: str
    cause: str | None
    saga: str
    data: Any
    at_s: float


@dataclass(slots=True)
class Key:
    """All of one key's list, until it is judged."""

    asked: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    stored: list[str] = field(default_factory=list)
    applied: list[tuple[str, int]] = field(default_factory=list)
    mirrored: list[tuple[str, int]] = field(default_factory=list)
    states: dict[str, list[str]] = field(default_factory=lambda: {"counter": [], "mirror": []})
    dead: set[str] = field(default_factory=set)
    closed_s: float = 0.0
    touched_s: float = 0.0


@dataclass(slots=True)
class Tour:
    """One saga, until it is judged."""

    positions: int
    began_s: float
    events: dict[str, int] = field(default_factory=dict)
    done: list[tuple[int, str]] = field(default_factory=list)
    """Effects as the log tells of them: sequence and key."""

    undone: set[str] = field(default_factory=set)
    end: str = ""
    ended_s: float = 0.0
    stored: bool = False


@dataclass(slots=True)
class Timer:
    """One run that waits, until it is judged."""

    began_s: float
    delay_s: float
    stored: bool = False
    rung_s: float = 0.0
    late_s: float = 0.0
    asked: tuple[str, str] | None = None
    """The approval and the digest of what was shown."""

    decided: tuple[str, str] | None = None
    """The first decision about it: by whom, and what."""


class Account:
    """What was seen, what of it is still open, and what was wrong."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.tours: dict[str, Tour] = {}
        self.timers: dict[str, Timer] = {}
        self.checked: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.outcomes: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.standing: dict[str, Counter[int]] = {}
        """What stands outside, of each saga, by position; empty when all of it was taken back."""

        self.verdicts: dict[str, tuple[str, int]] = {}
        """How each saga ended, and how long it was."""

        self.effective: Counter[str] = Counter()
        self.attempts = self.letters = self.stuck = self.late_timers = 0
        self.places: dict[tuple[str, int], str] = {}
        self.superseded: dict[str, set[str]] = {}
        self.owners: dict[str, str] = {}
        self.takeovers = 0
        self.unseen: dict[str, tuple[str, str, int]] = {}
        """Acked operations that the tail has not come to: kind, key and sequence."""

        self.seen_first: set[str] = set()
        """What the tail came to before its client said that it was acked."""

        self.not_stored: deque[str] = deque(maxlen=20_000)
        self.lateness: deque[float] = deque(maxlen=50_000)
        self.now_s = 0.0
        self.read_s = 0.0
        """When the newest of what was read came to the log: what is older is known. It stands still for as long as the
        log cannot be read, and then clients may know more than the reader.
        """

        self.calm_s = float("inf")
        """Since when nothing is broken; never: something is."""

    def wrong(self, invariant: str, text: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(invariant, text, self.now_s))

    # What clients were told

    def asked(self, kind: str, key: str, name: str, at_s: float) -> None:
        """A client begins an operation."""
        self.outcomes["asked"] += 1
        if kind == "append":
            self.keys.setdefault(key, Key()).asked.add(name)
        elif kind == "timer":
            self.timers[name] = Timer(at_s, 0.0)

    def answered(self, name: str, kind: str, key: str, seq: int) -> None:
        """It was acked."""
        self.outcomes["ok"] += 1
        if kind == "append" and key in self.keys:
            self.keys[key].acked.add(name)
        if name in self.seen_first:
            self.seen_first.discard(name)
        else:
            self.unseen[name] = (kind, key, seq)

    def refused(self, name: str, error: str, took_s: float, within_s: float, *, typed: bool) -> None:
        """It was refused, or nobody knows."""
        self.outcomes["unknown" if error == "OutcomeUnknown" else "refused"] += 1
        self.checked["I12"] += 1
        if not typed or error == "TimeoutError":
            self.wrong("I12", f"{name} was refused with {error}, which is no error of hocket's")
        if took_s > within_s + ANSWER_S:
            self.wrong("I12", f"{name} was refused after {took_s:.1f} s, its bound was {within_s:g} s")
        self.seen_first.discard(name)
        if error == "Unavailable":
            self.not_stored.append(name)

    def closed(self, key: str, at_s: float) -> None:
        """Nothing more is asked of a key."""
        if key in self.keys:
            self.keys[key].closed_s = at_s

    # What the log holds

    def fact(self, fact: Fact) -> None:
        """The next event of the log."""
        at_s = self.now_s
        if fact.kind == "evt" and fact.agent == "writers":
            self._stored(fact)
            if self.unseen.pop(fact.id, None) is None:
                self.seen_first.add(fact.id)
        match fact.type:
            case "campaign.applied.v1" | "campaign.mirrored.v1":
                self._list(fact)
            case "campaign.rung.v1" | "campaign.settled.v1" | "hocket.approval.requested.v1":
                self._timer(fact)
            case "hocket.approval.decided.v1":
                timer = self.timers.get(fact.key)
                told = (fact.data["approval"], fact.data["digest"])
                if timer and timer.asked == told and timer.decided is None:
                    timer.decided = (fact.data["by"], fact.data["option"])
        tour = self.tours.get(fact.saga)
        if tour:
            tour.events[fact.id] = fact.seq
            self._tour(tour, fact, at_s)

    def _stored(self, fact: Fact) -> None:
        self.checked["I1"] += 1
        self.checked["I2"] += 1
        if fact.id in self.not_stored:
            self.wrong("I12", f"{fact.id} is in the log at {fact.seq}, and its client was told that it is not")
        match fact.type:
            case "campaign.appended.v1":
                key = self.keys.get(fact.key)
                if key is None or fact.id not in key.asked:
                    self.wrong(
                        "I2", f"{fact.id} of {fact.key} was asked for by nobody, or is stored after all was over"
                    )
                    return
                key.stored.append(fact.id)
                key.touched_s = self.now_s
            case "campaign.asked.v1" if fact.id in self.tours:
                self.tours[fact.id].stored = True
            case "campaign.begun.v1" if fact.id in self.timers:
                self.timers[fact.id].stored, self.timers[fact.id].delay_s = True, fact.data["delay_s"]
            case _:
                self.wrong("I2", f"{fact.id} ({fact.type}) was asked for by nobody")

    def _list(self, fact: Fact) -> None:
        key = self.keys.get(fact.key)
        if key is None:
            self.wrong("I3", f"{fact.type} of {fact.data['of']} on {fact.key} after that was over: it came twice")
            return
        rows = key.applied if fact.agent == "counter" else key.mirrored
        rows.append((fact.data["of"], fact.data["place"]))
        key.touched_s = self.now_s
        self.checked["I5"] += 1
        if fact.data["by"] in self.superseded.get(fact.agent, ()):
            self.wrong(
                "I5", f"{fact.id} was written by {fact.data['by']} after another process had claimed {fact.agent}"
            )

    def claim(self, agent: str, process: str, *, released: bool) -> None:
        """Somebody says who owns an agent."""
        before = self.owners.get(agent)
        if before != process:
            self.takeovers += before is not None
            if before:
                self.superseded.setdefault(agent, set()).add(before)
            self.superseded.setdefault(agent, set()).discard(process)
            self.owners[agent] = process

    def state(self, agent: str, name: str, ids: list[str], seq: int) -> None:
        """A list as an actor's state has it."""
        key = self.keys.get(name)
        if key is None:
            return
        before = key.states[agent]
        self.checked["I5"] += 1
        if ids[: len(before)] != before:
            self.wrong(
                "I5", f"the state of {agent} {name} at {seq} forgot what it held: {before[-3:]} became {ids[-3:]}"
            )
        key.states[agent] = ids

    def letter(self, agent: str, key: str, event_id: str) -> None:
        """Something is in the dead letters."""
        self.letters += 1
        if key in self.keys:
            self.keys[key].dead.add(event_id)

    def _timer(self, fact: Fact) -> None:
        timer = self.timers.get(fact.key)
        if timer is None:
            if fact.type != "hocket.approval.requested.v1" or fact.key.startswith("timer"):
                self.wrong("I7", f"{fact.type} on {fact.key} after that was over: it came twice")
            return
        match fact.type:
            case "campaign.rung.v1":
                self.checked["I7"] += 1
                slept_s = fact.data["rung_s"] - fact.data["asked_s"]
                if timer.rung_s:
                    self.wrong("I7", f"{fact.key} rang twice")
                if slept_s < timer.delay_s - EARLY_S:
                    self.wrong("I7", f"{fact.key} slept {slept_s:.3f} of {timer.delay_s} s")
                healthy = fact.data["asked_s"] + timer.delay_s > self.calm_s + REST_S
                self.checked["I7 in time"] += healthy
                if healthy and slept_s > timer.delay_s + LATE_S:
                    self.wrong("I7", f"{fact.key} slept {slept_s:.3f} s instead of {timer.delay_s}, and all was well")
                timer.rung_s, timer.late_s = fact.data["rung_s"], slept_s - timer.delay_s
            case "hocket.approval.requested.v1":
                timer.asked = (fact.data["approval"], fact.data["digest"])
            case "campaign.settled.v1":
                self._settled(fact, timer)

    def _settled(self, fact: Fact, timer: Timer) -> None:
        self.checked["I11"] += 1
        said = (fact.data["by"][0], fact.data["option"]) if fact.data["by"] else None
        if said != timer.decided and fact.data["option"] != "expired":
            self.wrong("I11", f"{fact.key} took {said}, the first decision was {timer.decided}")
        self.outcomes["timers settled"] += 1
        self.lateness.append(timer.late_s)
        del self.timers[fact.key]

    def _tour(self, tour: Tour, fact: Fact, at_s: float) -> None:
        match fact.type:
            case "hocket.effect.done.v1":
                tour.done.append((fact.seq, fact.data["effect_key"]))
            case "hocket.undo.requested.v1":
                self.checked["I6 order"] += 1
                wanted, cause = fact.data["effect_key"], tour.events.get(fact.cause or "")
                if cause is not None and not fact.data["unknown"] and wanted not in tour.undone:
                    known = [key for seq, key in tour.done if seq <= cause and key not in tour.undone]
                    if known and known[-1] != wanted:
                        self.wrong("I6", f"{fact.saga} undoes {wanted} before {known[-1]}, which was done after it")
                tour.undone.add(wanted)
            case "hocket.saga.completed.v1" | "hocket.saga.compensated.v1":
                end = fact.type.split(".")[2]
                if tour.end and tour.end != end:
                    self.wrong("I6", f"{fact.saga} is {end} after it was {tour.end}")
                elif not tour.end:
                    self.ends[end] += 1
                tour.end, tour.ended_s = end, at_s
                self.verdicts[fact.saga] = (end, tour.positions)
            case "hocket.saga.stuck.v1":
                self.stuck += 1
            case "hocket.saga.expired.v1":
                self.outcomes["sagas expired"] += 1

    # What the world outside says

    def deed(self, do: str, saga: str, n: int, key: str, *, changed: bool) -> None:
        """Somebody has asked the world outside for something."""
        if do not in ("book", "cancel"):
            return
        self.attempts += 1
        self.checked["I9"] += 1
        if self.places.setdefault((saga, n), key) != key:
            self.wrong("I9", f"{saga} position {n} was done under {self.places[saga, n]} and under {key}")
        if changed:
            self.effective[f"{do} {key}"] += 1
            if self.effective[f"{do} {key}"] > 1:
                self.wrong("I9", f"{do} {key} took effect {self.effective[f'{do} {key}']} times")
            self.standing.setdefault(saga, Counter())[n] += 1 if do == "book" else -1

    # Judging what is over

    def sweep(self, upto: int, waits: set[str]) -> None:
        """Judge what is over by now. `upto` is how far the log was read; `waits` are keys that still have work."""
        for name, (_, key, seq) in list(self.unseen.items()):
            if seq < upto:
                self.wrong(
                    "I1", f"{name} of {key} was acked as {seq}, the log was read up to {upto}, and it is not there"
                )
                del self.unseen[name]
        for name, key in list(self.keys.items()):
            rests = key.closed_s and max(key.touched_s, key.closed_s) < self.read_s - REST_S
            if rests and (name not in waits or key.closed_s < self.read_s - LOST_S):
                self._judge_key(name, key)
                del self.keys[name]
        for saga, tour in list(self.tours.items()):
            if tour.end and tour.ended_s < self.now_s - SETTLE_S and self._tour_is_right(saga, tour):
                self._forget(saga, tour)
            elif tour.end and tour.ended_s < self.now_s - SAGA_S:
                self.wrong("I6", f"{saga} is {tour.end}, and {self._stands(saga, tour)} stand outside")
                self._forget(saga, tour)
            elif tour.stored and not tour.end and tour.began_s < self.now_s - SAGA_S:
                self.wrong("I6", f"{saga} has no end after {SAGA_S:g} s; {self._stands(saga, tour)} stand outside")
                self._forget(saga, tour)
            elif not tour.stored and tour.began_s < self.now_s - SAGA_S:
                self._forget(saga, tour)  # it was refused
        for name, timer in list(self.timers.items()):
            if timer.began_s < self.now_s - APPROVAL_S - LOST_S:
                if timer.stored:
                    self.wrong("I7", f"{name} has not {'settled' if timer.rung_s else 'rung'} in time")
                del self.timers[name]

    def _judge_key(self, name: str, key: Key) -> None:
        self.checked["I3"] += len(key.stored)
        self.checked["I4"] += len(key.stored)
        self.checked["I8"] += len(key.applied) + len(key.mirrored)
        if lost := key.acked.difference(key.stored):
            self.wrong("I1", f"{name}: {len(lost)} were acked and are not in the log: {sorted(lost)[:5]}")
        for agent, rows in (("counter", key.applied), ("mirror", key.mirrored)):
            for invariant, text in _differences(key, [of for of, _ in rows]):
                self.wrong(invariant, f"{agent} on {name}: {text}")
            if [place for _, place in rows] != list(range(1, len(rows) + 1)):
                self.wrong("I8", f"{agent} on {name}: the places are not one chain: {[p for _, p in rows][-10:]}")
            if key.states[agent] != [of for of, _ in rows]:
                self.wrong("I8", f"{agent} on {name}: the state is not what was said of it")

    def _tour_is_right(self, saga: str, tour: Tour) -> bool:
        wanted = [1 if tour.end == "completed" else 0] * tour.positions
        return self._stands(saga, tour) == wanted

    def _stands(self, saga: str, tour: Tour) -> list[int]:
        standing = self.standing.get(saga, Counter())
        return [standing[n] for n in range(tour.positions)]

    def _forget(self, saga: str, tour: Tour) -> None:
        self.checked["I6"] += 1
        del self.tours[saga]

    def finish(self, upto: int) -> None:
        """Judge all that is left, and hold the whole ledger against all ends."""
        self.now_s += 10 * SAGA_S
        self.read_s = float("inf")
        for key in self.keys.values():
            key.closed_s = key.closed_s or 1.0
        self.sweep(upto, set())
        for saga, (end, positions) in self.verdicts.items():
            standing = self.standing.get(saga, Counter())
            self.checked["I6 ledger"] += 1
            if [standing[n] for n in range(positions)] != [1 if end == "completed" else 0] * positions:
                self.wrong("I6", f"{saga} is {end}, and at the end {dict(standing)} stand outside")
        for saga in self.standing.keys() - self.verdicts.keys():
            if any(self.standing[saga].values()):
                self.wrong("I6", f"{saga} has no end, and {dict(self.standing[saga])} stand outside")


def _differences(key: Key, done: list[str]) -> Iterator[tuple[str, str]]:
    wanted = [name for name in key.stored if name not in key.dead]
    if done == wanted:
        return
    counts = Counter(done)
    if twice := [name for name, count in counts.items() if count > 1]:
        yield "I3", f"handled more than once: {twice[:5]}"
    if missing := [name for name in wanted if name not in counts]:
        yield "I3", f"{len(missing)} of {len(wanted)} not handled: {missing[:5]}"
    if both := [name for name in done if name in key.dead]:
        yield "I3", f"handled, and in the dead letters: {both[:5]}"
    if foreign := [name for name in counts if name not in set(key.stored)]:
        yield "I2", f"handled, and not in the log: {foreign[:5]}"
    if not twice and not missing and not both and not foreign:
        yield "I4", f"handled in another order than that of the log: {done[:5]} … for {wanted[:5]} …"
