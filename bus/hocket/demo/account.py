"""What the log says about one saga once its crew is quiet: who did how much, and whether the promises were kept."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from hocket import run
from hocket.client import Bus
from hocket.demo.stage import Stage
from hocket.engine.cursor import Mark
from hocket.log.base import Message
from hocket.observe.audit import Report, judge, sorted_out
from hocket.observe.fact import Fact
from hocket.observe.finding import Severity
from hocket.observe.history import Entry, Remembered, entry_of
from hocket.observe.letters import DeadLetter
from hocket.subjects import Names, shard_of

QUIET_S = 20.0
"""How long to wait until every cursor has passed the saga's events; a killed service needs a few seconds."""

_LOOK_S = 0.05


INTENT = "intent of "
"""What the moment is called by that an effect begins, with the effect's name."""

_Kind = Literal["work", "question", "effect"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Something that was in an agent's hands for a while."""

    agent: str
    kind: _Kind
    """`work` on an event, until something was emitted; a `question` to people, until they decided; or an `effect`."""

    what: str
    """What appeared in the log when it began, as `moment_of` calls it."""

    seq: int
    asked_ns: int
    """When the log stored that, in nanoseconds since the Unix epoch."""

    answered_ns: int
    """When it stored what ended it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One agent's part."""

    agent: str
    handled: int
    """Events of the saga that its cursor has passed."""

    emitted: int
    letters: int
    """Events that it could not handle."""

    attempts: int
    """How often it tried those."""

    busy_s: float
    """From an event, or from its answer before, to its answer: summed over all its work."""


@dataclass(frozen=True, slots=True)
class Account:
    """One saga in the log."""

    report: Report
    works: tuple[Work, ...]
    facts: tuple[Fact, ...]
    """Its events without their data, in log order."""

    answers: tuple[Answer, ...]
    moments: tuple[tuple[int, str], ...]
    """What appeared in the log, by sequence and in its order."""

    done: int
    """How many effects were done outside."""

    unknown: tuple[str, ...]
    """Effects of which nobody knows whether they happened."""

    @property
    def said(self) -> Mapping[tuple[str, str], int]:
        """How many events there are, by publisher and type."""
        return Counter((fact.publisher, fact.type) for fact in self.facts)


async def settled(stage: Stage, key: str, start: int, *, quiet_s: float = QUIET_S) -> Account:
    """The account of a saga that lives on one key, once every agent has finished its events.

    After `quiet_s` it is returned as it is: then its report names what is unfinished. Raises Unavailable.
    """
    clock = asyncio.get_running_loop()
    until_s = clock.time() + quiet_s
    while True:
        account = account_of(await _read(stage.bus, stage.consumes, key, start), stage.consumes)
        finished = all(finding.severity is not Severity.ERROR for finding in account.report.findings)
        if finished or clock.time() > until_s:
            return account
        await asyncio.sleep(_LOOK_S)


async def _read(bus: Bus, agents: Iterable[str], key: str, start: int) -> list[Message]:
    """A key's messages from a sequence on, and the agents' cursors, whenever they were written."""
    shard = shard_of(key, bus.shards)
    log, names = bus.logs[shard], Names(bus.domain, shard)
    messages = []
    # The cursors first: whatever was emitted for the events that they have passed is in the log by then.
    for filters, first in ([names.cursor(agent) for agent in agents], 1), (names.everything_of_key(key), start):
        async with aclosing(log.scan(filters, start=first)) as found:
            messages += [message async for message in found]
    return messages


def account_of(messages: Sequence[Message], consumes: Mapping[str, frozenset[str]]) -> Account:
    """The account that these messages make."""
    shard = sorted_out(messages, 0)
    entries = [entry for message in messages if (entry := entry_of(message, 0)) is not None]
    stored_ns: dict[int, int] = {message.seq: message.time_ns for message in messages}
    letters = [entry for entry in entries if isinstance(entry, DeadLetter)]
    emitted = Counter(fact.publisher for fact in shard.facts if fact.seq in shard.positions or fact.seq in shard.told)
    remembered = [entry for entry in entries if isinstance(entry, Remembered)]
    answers = [*_answers(shard.facts, shard.positions, stored_ns), *_effects(remembered, stored_ns)]
    works = []
    for agent, types in sorted(consumes.items()):
        mark = shard.marks.get(agent, Mark())
        mine = [fact for fact in shard.facts if fact.to == agent or (fact.to is None and fact.type in types)]
        attempts = [letter.attempts for letter in letters if letter.agent == agent]
        works.append(
            Work(
                agent=agent,
                handled=sum(1 for fact in mine if fact.seq <= mark.upto and fact.seq not in mark.open),
                emitted=emitted[agent],
                letters=len(attempts),
                attempts=sum(attempts),
                busy_s=_busy_s([answer for answer in answers if answer.agent == agent and answer.kind == "work"]),
            )
        )
    seen = ((entry.seq, moment_of(entry)) for entry in entries)
    moments = tuple(sorted((seq, moment) for seq, moment in seen if moment is not None))
    newest = {(e.agent, e.run, e.name, e.occurrence): e.phase for e in remembered if e.kind == run.EFFECT}
    return Account(
        report=judge(shard, consumes),
        works=tuple(works),
        facts=tuple(shard.facts),
        answers=tuple(answers),
        moments=moments,
        done=sum(phase == run.DONE for phase in newest.values()),
        unknown=tuple(place[2] for place, phase in newest.items() if phase in (run.BEGUN, run.PARKED)),
    )


def moment_of(entry: Entry) -> str | None:
    """What the moment is called at which an entry appears; None of one at which nothing begins."""
    match entry:
        case Fact():
            return entry.type
        case Remembered(kind=run.EFFECT, phase=run.BEGUN):
            return f"{INTENT}{entry.name}"
        case _:
            return None


def _answers(
    facts: Sequence[Fact], positions: Mapping[int, tuple[str, int]], stored_ns: Mapping[int, int]
) -> Iterator[Answer]:
    """What each handling that emitted something did until then, and what it waited for in between."""
    by_id = {fact.id: fact for fact in facts}
    words: dict[str, Fact] = {}
    before: dict[tuple[str, str], Fact] = {}

    def between(kind: _Kind, first: Fact, last: Fact) -> Answer:
        return Answer(agent, kind, first.type, first.seq, stored_ns[first.seq], stored_ns[last.seq])

    for fact in facts:
        if fact.to is not None:
            words[fact.to] = fact
        cause = by_id.get(fact.cause or "")
        if fact.seq not in positions or cause is None:
            continue
        agent = fact.publisher
        asked, word = before.get((agent, cause.id)), words.get(agent)
        if asked is None:
            yield between("work", cause, fact)
        elif word is not None and word.seq > asked.seq:
            yield between("question", asked, word)
            yield between("work", word, fact)
        before[agent, cause.id] = fact


def _effects(entries: Sequence[Remembered], stored_ns: Mapping[int, int]) -> Iterator[Answer]:
    """Each effect from its intent to its outcome."""
    begun: dict[tuple[str, str, str], Remembered] = {}
    for entry in entries:
        place = (entry.agent, entry.run, entry.name)
        moment = moment_of(entry)
        if moment is not None:
            begun.setdefault(place, entry)
        elif entry.kind == run.EFFECT and entry.phase == run.DONE and (intent := begun.pop(place, None)) is not None:
            what = f"{INTENT}{entry.name}"
            yield Answer(entry.agent, "effect", what, intent.seq, stored_ns[intent.seq], stored_ns[entry.seq])


def _busy_s(answers: Sequence[Answer]) -> float:
    busy_ns, before_ns = 0, 0
    for answer in answers:
        busy_ns += answer.answered_ns - max(answer.asked_ns, before_ns)
        before_ns = answer.answered_ns
    return busy_ns / 1e9


__all__ = ["INTENT", "QUIET_S", "Account", "Answer", "Work", "account_of", "moment_of", "settled"]
