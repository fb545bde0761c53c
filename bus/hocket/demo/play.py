"""The course of one demo: a request, a brief that somebody decides on, and what the log says about it then."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hocket.approval import DENY
from hocket.beside import beside
from hocket.client import Bus
from hocket.demo.account import QUIET_S, Account, settled
from hocket.demo.brief import Problem, verify
from hocket.demo.progress import Progress, Step
from hocket.demo.stage import Stage
from hocket.errors import DecisionRefused, NotFound, OutcomeUnknown, Unavailable
from hocket.ids import fresh
from hocket.observe import runs
from hocket.observe.fact import Fact
from hocket.observe.history import Entry, RunHead, entry_of
from hocket.observe.letters import DeadLetter
from hocket.subjects import Names, shard_of
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.briefs import BriefFailed, BriefPublished, BriefRejected, BriefRequested

WORK_S = 120.0
"""How long the crew may take until it asks for approval, and again from the decision to the end."""

_RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody says to a brief that is to be published."""

    approved: bool
    by: str
    reason: str = ""


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

Decide = Callable[[ApprovalRequested], Awaitable[Decision]]
"""Cancelled when somebody else decides first, or when it is too late."""

Tell = Callable[[Entry, Progress, Sequence[Step]], None]


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
    tell: Tell = lambda entry, progress, steps: None,
    work_s: float = WORK_S,
) -> Played:
    """Ask for a brief, have it decided on, and wait until the crew is done with it.

    `tell` is called with each event, and with what runs remember, as it appears in the log. Whatever the
    outcome, it is returned.
    """
    saga = f"brief-{fresh()[:8]}"
    progress = Progress()
    receipt = await stage.bus.publish(request, saga=saga, event_id=f"{saga}-request")
    async with aclosing(_following(stage.bus, saga, receipt.seq)) as entries:
        clock = asyncio.get_running_loop()
        began_s = clock.time()
        try:
            async with asyncio.timeout(work_s) as deadline, AsyncExitStack() as stack:
                desk = _Desk(stage.bus, decide, deadline, work_s, stack)
                ending = await _course(request, entries, desk, tell, progress)
        except TimeoutError:
            if not deadline.expired():
                raise  # it is the decision's own, or a listener's
            ending = Stuck(f"nothing has come for {work_s:g} s: {progress.missing()}")
        took_s = clock.time() - began_s - desk.took_s
    # What is stuck does not become quiet by waiting.
    quiet_s = 0.0 if isinstance(ending, Stuck) else QUIET_S
    return Played(saga, ending, await settled(stage, saga, receipt.seq, quiet_s=quiet_s), took_s)


async def _course(
    request: BriefRequested, entries: AsyncIterable[Entry], desk: "_Desk", tell: Tell, progress: Progress
) -> Ending:
    """From the request to the end, whatever that is."""
    async for entry in entries:
        tell(entry, progress, progress.take(entry) if isinstance(entry, Fact) else ())
        match entry:
            case DeadLetter():
                return Stuck(f"{entry.agent} could not handle {entry.type}: {entry.error}", entry)
            case RunHead():
                await desk.see(entry)
            case Fact(type=BriefPublished.event_type):
                return _published(entry, Path(request.folder))
            case Fact(type=BriefFailed.event_type):
                return Failed(entry.id, BriefFailed.model_validate(entry.data).reason)
            case Fact(type=BriefRejected.event_type):
                return Failed(entry.id, BriefRejected.model_validate(entry.data).sentence)
    raise AssertionError("a followed log does not end")


@dataclass(slots=True)
class _Desk:
    """Where a question waits for somebody's decision. The crew's time stands still meanwhile."""

    bus: Bus
    decide: Decide
    deadline: asyncio.Timeout
    work_s: float
    stack: AsyncExitStack
    """Owns the task in which somebody decides."""

    took_s: float = 0.0
    """How long all decisions took together."""

    _run: str | None = None
    """The run that asks."""

    _asked_s: float | None = None

    async def see(self, head: RunHead) -> None:
        """A run begins to ask, or does so no longer: then somebody has decided, here or elsewhere."""
        if head.approval is not None and self._run is None:
            self._run, self._asked_s = head.run, asyncio.get_running_loop().time()
            self.deadline.reschedule(None)
            await self.stack.enter_async_context(beside(self._ask(ApprovalRequested.model_validate(head.approval))))
        elif head.approval is None and self._run == head.run:
            self._run = None
            self._answered()
            await self.stack.aclose()

    async def _ask(self, request: ApprovalRequested) -> None:
        decision = await self.decide(request)
        self._answered()
        await _send(self.bus, request, decision)

    def _answered(self) -> None:
        if self._asked_s is not None:
            now_s = asyncio.get_running_loop().time()
            self.took_s += now_s - self._asked_s
            self._asked_s = None
            self.deadline.reschedule(now_s + self.work_s)


async def _send(bus: Bus, request: ApprovalRequested, decision: Decision) -> None:
    """Decide as `hocket approve` and `hocket deny` do, however long the log is away meanwhile."""
    decided = ApprovalDecided(
        approval=request.approval,
        digest=request.digest,
        option=request.options[0] if decision.approved else DENY,
        by=decision.by,
        reason=decision.reason,
    )
    while True:
        try:
            run = await runs.asking(bus, request.approval)
            # With an id of its own it is published once, even if nobody could say whether it was.
            await runs.decide(bus, run, decided, event_id=f"{request.approval}-decision")
        except (NotFound, DecisionRefused):
            return  # somebody else was faster, or it is too late
        except (Unavailable, OutcomeUnknown):
            await asyncio.sleep(_RETRY_S)
        else:
            return


def _published(fact: Fact, folder: Path) -> Published:
    event = BriefPublished.model_validate(fact.data)
    path = Path(event.path)
    problems = verify(path, folder)
    data = path.read_bytes() if path.is_file() else b""
    if data and sha256(data).hexdigest() != event.digest:
        problems.append(Problem(0, f"{path} has changed since it was published"))
    return Published(fact.id, path, data, event.sentences, event.documents, tuple(problems))


async def _following(bus: Bus, key: str, start: int) -> AsyncGenerator[Entry, None]:
    """What the log holds under a key, as it appears."""
    shard = shard_of(key, bus.shards)
    names = Names(bus.domain, shard)
    async with aclosing(bus.logs[shard].scan(names.everything_of_key(key), start=start, follow=True)) as messages:
        async for message in messages:
            entry = entry_of(message, shard)
            if entry is not None:
                yield entry


__all__ = ["WORK_S", "Decide", "Decision", "Ending", "Failed", "Played", "Published", "Stuck", "Tell", "play"]
