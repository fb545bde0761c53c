"""The course of one demo: a request, a brief that somebody decides on, and what the log says about it then."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hocket.client import Bus
from hocket.clock import SystemClock, rfc3339
from hocket.demo.account import QUIET_S, Account, settled
from hocket.demo.brief import Problem, verify
from hocket.demo.progress import Progress, Step
from hocket.demo.stage import PUBLISHER, Stage
from hocket.ids import fresh
from hocket.observe.fact import Fact
from hocket.observe.history import entry_of
from hocket.observe.letters import DeadLetter
from hocket.subjects import Names, shard_of
from hocket_schemas.briefs import (
    BriefApproved,
    BriefFailed,
    BriefPublished,
    BriefRejected,
    BriefRequested,
    BriefReviewed,
)
from hocket_schemas.envelope import Envelope

WORK_S = 120.0
"""How long the crew may take until the review, and again from the decision to the end."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody says to a reviewed brief."""

    approved: bool
    by: str


@dataclass(frozen=True, slots=True)
class Published:
    """The brief is on disk."""

    event_id: str
    path: Path
    data: bytes
    """The file as it was found there."""

    sentences: int
    documents: int
    problems: tuple[Problem, ...]
    """What in it does not hold against the documents."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The crew says that there will be no brief."""

    event_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stuck:
    """The brief did not come to its end."""

    reason: str
    letter: DeadLetter | None = None
    """What an agent could not handle; None: the time was up."""


Ending = Published | Failed | Stuck

Decide = Callable[[BriefReviewed], Awaitable[Decision]]
Tell = Callable[[Fact, Progress, Sequence[Step]], None]


@dataclass(frozen=True, slots=True)
class Played:
    """One demo after its end."""

    saga: str
    ending: Ending
    account: Account
    took_s: float
    """From the request to the end, without the time that the decision took."""


async def play(
    stage: Stage,
    request: BriefRequested,
    *,
    decide: Decide,
    tell: Tell = lambda fact, progress, steps: None,
    work_s: float = WORK_S,
) -> Played:
    """Ask for a brief, have it decided on, and wait until the crew is done with it.

    `tell` is called with each event as it appears in the log. Whatever the outcome, it is returned.
    """
    saga = f"brief-{fresh()[:8]}"
    clock = asyncio.get_running_loop()
    began_s = clock.time()
    progress = Progress()
    receipt = await stage.bus.publish(request, saga=saga, event_id=f"{saga}-request")

    async def course(deadline: asyncio.Timeout) -> Ending:
        nonlocal began_s
        async with aclosing(_following(stage.bus, saga, receipt.seq)) as entries:
            async for entry in entries:
                if isinstance(entry, DeadLetter):
                    return Stuck(f"{entry.agent} could not handle {entry.type}: {entry.error}", entry)
                tell(entry, progress, progress.take(entry))
                match entry.type:
                    case BriefReviewed.event_type:
                        asked_s = clock.time()
                        deadline.reschedule(None)
                        await _decide(stage.bus, entry, decide)
                        deadline.reschedule(clock.time() + work_s)
                        began_s += clock.time() - asked_s
                    case BriefPublished.event_type:
                        return _published(entry, Path(request.folder))
                    case BriefFailed.event_type:
                        return Failed(entry.id, BriefFailed.model_validate(entry.data).reason)
        raise AssertionError("a followed log does not end")

    try:
        async with asyncio.timeout(work_s) as deadline:
            ending = await course(deadline)
    except TimeoutError:
        if not deadline.expired():
            raise  # it is the decision's own, or a listener's
        ending = Stuck(f"nothing has come for {work_s:g} s: {progress.missing()}")
    took_s = clock.time() - began_s
    # What is stuck does not become quiet by waiting.
    quiet_s = 0.0 if isinstance(ending, Stuck) else QUIET_S
    return Played(saga, ending, await settled(stage, saga, receipt.seq, quiet_s=quiet_s), took_s)


async def _decide(bus: Bus, reviewed: Fact, decide: Decide) -> None:
    event = BriefReviewed.model_validate(reviewed.data)
    decision = await decide(event)
    kind = BriefApproved if decision.approved else BriefRejected
    # It names the review as its cause, as an agent's answer would, so that the chain of causes goes on behind it.
    # With an id of its own it is published once, however long the log is away meanwhile.
    envelope = Envelope(
        id=f"{reviewed.saga}-decision",
        source=f"/{bus.domain}/{PUBLISHER}",
        type=kind.event_type,
        data=kind(version=event.version, by=decision.by).model_dump(mode="json"),
        time=rfc3339(SystemClock().now_s()),
        partitionkey=reviewed.key,
        correlationid=reviewed.saga,
        causationid=reviewed.id,
    )
    await bus.publish_envelope(envelope)


def _published(fact: Fact, folder: Path) -> Published:
    event = BriefPublished.model_validate(fact.data)
    path = Path(event.path)
    problems = verify(path, folder)
    data = path.read_bytes() if path.is_file() else b""
    if data and sha256(data).hexdigest() != event.digest:
        problems.append(Problem(0, f"{path} has changed since it was published"))
    return Published(fact.id, path, data, event.sentences, event.documents, tuple(problems))


async def _following(bus: Bus, key: str, start: int) -> AsyncGenerator[Fact | DeadLetter, None]:
    """The events and dead letters of a key as they appear in the log."""
    shard = shard_of(key, bus.shards)
    names = Names(bus.domain, shard)
    async with aclosing(bus.logs[shard].scan(names.everything_of_key(key), start=start, follow=True)) as messages:
        async for message in messages:
            entry = entry_of(message, shard)
            if isinstance(entry, Fact | DeadLetter):
                yield entry


__all__ = ["WORK_S", "Decide", "Decision", "Ending", "Failed", "Played", "Published", "Stuck", "Tell", "play"]
