"""What the log says about one saga once its crew is quiet: who did how much, and whether the promises were kept."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from hocket.client import Bus
from hocket.demo.stage import Stage
from hocket.engine.cursor import Mark
from hocket.log.base import Message
from hocket.observe.audit import Report, judge, sorted_out
from hocket.observe.fact import Fact
from hocket.observe.finding import Severity
from hocket.observe.letters import letter_of
from hocket.subjects import Names, shard_of, tokens_of

QUIET_S = 20.0
"""How long to wait until every cursor has passed the saga's events; a killed service needs a few seconds."""

_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """One handling that emitted something."""

    agent: str
    cause: Fact
    asked_ns: int
    """When the log stored what was handled, in nanoseconds since the Unix epoch."""

    answered_ns: int
    """When it stored what was emitted."""


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
    """From an event, or from its answer before, to its answer: summed over all answers."""


@dataclass(frozen=True, slots=True)
class Account:
    """One saga in the log."""

    report: Report
    works: tuple[Work, ...]
    facts: tuple[Fact, ...]
    """Its events without their data, in log order."""

    answers: tuple[Answer, ...]
    """In log order."""

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
    stored_ns: dict[int, int] = {message.seq: message.time_ns for message in messages}
    letters = [letter_of(message, 0) for message in messages if tokens_of(message.subject)[0] == "dead"]
    emitted = Counter(fact.publisher for fact in shard.facts if fact.seq in shard.positions)
    answers = _answers(shard.facts, shard.positions, stored_ns)
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
                busy_s=_busy_s([answer for answer in answers if answer.agent == agent]),
            )
        )
    return Account(judge(shard, consumes), tuple(works), tuple(shard.facts), tuple(answers))


def _answers(
    facts: Sequence[Fact], positions: Mapping[int, tuple[str, int]], stored_ns: Mapping[int, int]
) -> list[Answer]:
    """Each handling that emitted something, by its first event."""
    by_id = {fact.id: fact for fact in facts}
    found: dict[tuple[str, str], Answer] = {}
    for fact in facts:
        cause = by_id.get(fact.cause or "")
        if fact.seq in positions and cause is not None:
            answer = Answer(fact.publisher, cause, stored_ns[cause.seq], stored_ns[fact.seq])
            found.setdefault((fact.publisher, cause.id), answer)
    return list(found.values())


def _busy_s(answers: Sequence[Answer]) -> float:
    busy_ns, before_ns = 0, 0
    for answer in answers:
        busy_ns += answer.answered_ns - max(answer.asked_ns, before_ns)
        before_ns = answer.answered_ns
    return busy_ns / 1e9


__all__ = ["QUIET_S", "Account", "Answer", "Work", "account_of", "settled"]
