"""Which event is next for which key: a key in log order, keys side by side, slow ones out of the way."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from hocket.engine.cancels import Cancel, Extent
from hocket.engine.handling import Received
from hocket.engine.runs import Head
from hocket.errors import NotFound
from hocket.log.base import Message, Seq
from hocket.run import Run
from hocket.subjects import Address, address
from hocket_schemas.envelope import Envelope


@dataclass(slots=True, eq=False)
class Work:
    """One event in hand."""

    seq: Seq
    key: str
    suspect: bool
    """Whether an earlier owner may have begun it, or have answered it."""

    where: Address | None = None
    """What its subject says, where it is that of an event."""

    message: Message | None = None
    """None: a run that goes on; its event is read again from the log."""

    run: str | None = None
    """The subject of its run head, once it left the cursor's window."""

    head: Head | None = None
    """The run as it was found."""

    journal: list[Message] | None = None
    """Its entries, where they were read together with its event."""

    decisions: Sequence[tuple[int, Envelope]] | None = None
    """Those that decided what it asked, where it was they that woke it."""

    answered: Seq | None = None
    """The answer that woke it, if that is finished by its next append."""

    received: Received | None = None
    """The event, once it has passed the gate."""

    doing: Run | None = None
    """What its handling does, once it has begun."""

    extent: Extent | None = None
    """What a request to cancel can be about, where one came before its turn."""

    cancel: Cancel | None = None
    """By which its handling ends."""

    stopped: bool = False
    """Whether its handling has come to an end that is none: it keeps its turn, and begins again."""

    rests_s: float = 0.0
    """How long it waits before it does, in seconds. Its key waits with it."""

    started_s: float = 0.0

    @property
    def finishes(self) -> Seq | None:
        """The event that its end finishes; a run's event was finished when its head was written."""
        return self.seq if self.run is None else None


def going_on(
    run: str, head: Head, decisions: Sequence[tuple[int, Envelope]] = (), *, answered: Seq | None = None
) -> Work:
    """A run that was found, or whose time or answer has come, as work."""
    where = address(head.subject)
    found = decisions or None
    return Work(Seq(head.seq), where.key, head.suspect, where, run=run, head=head, decisions=found, answered=answered)


def delivered(message: Message, *, suspect: bool) -> Work:
    """A delivery as work; what has no proper subject is ordered by itself."""
    try:
        where = address(message.subject)
    except NotFound:
        return Work(message.seq, f"seq-{message.seq}", suspect, message=message)
    return Work(message.seq, where.key, suspect, where, message)


@dataclass(slots=True, eq=False)
class Actor:
    """One key's turn order."""

    key: str
    queue: deque[Work] = field(default_factory=deque)
    at_turn: bool = False
    """Whether the first of them has its turn now."""


class Dispatcher:
    """Runs turns: one at a time per key, at most `concurrency` keys at once. What `steps_aside` loses its turn."""

    def __init__(
        self,
        turn: Callable[[Actor, Work], Awaitable[None]],
        tasks: asyncio.TaskGroup,
        concurrency: int,
        *,
        steps_aside: Callable[[Work], bool],
        paused: bool,
    ) -> None:
        self._turn = turn
        self._steps_aside = steps_aside
        self._paused = paused
        self._tasks = tasks
        self._context = copy_context()
        """In a copy of which each key begins: none finds what the handler of another one has set."""

        self._concurrency = concurrency
        self._actors: dict[str, Actor] = {}
        self._ready: deque[Actor] = deque()
        self._active: dict[Actor, asyncio.Task[None]] = {}
        self._round: asyncio.Task[None] | None = None
        """The one that takes key after key, for as long as none of them waits."""

        self._resting: dict[Actor, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()
        """Set when a turn has ended."""

        self.running: dict[Work, None] = {}
        """Works whose handler runs now, the longest-running first."""

    def add(self, work: Work) -> None:
        """Take an event; events of one key must come in log order."""
        actor = self._actors.get(work.key)
        if actor is not None:
            actor.queue.append(work)
            return
        actor = self._actors[work.key] = Actor(work.key)
        actor.queue.append(work)
        self._ready.append(actor)
        self._fill()

    def put_back(self, work: Work) -> None:
        """Take an event that has waited out of its turn: it goes before the newer ones that are not begun."""
        actor = self._actors.get(work.key)
        if actor is None:
            self.add(work)
            return
        place = len(actor.queue)
        while place > actor.at_turn and actor.queue[place - 1].seq > work.seq:
            place -= 1
        actor.queue.insert(place, work)

    def pause(self, *, paused: bool) -> None:
        """Begin no turn any more, or begin those that have waited."""
        self._paused = paused
        self._fill()

    def rouse(self) -> None:
        """Let those that rest have another look at the world."""
        resting, self._resting = self._resting, {}
        for actor, rest in resting.items():
            rest.cancel()
            self._ready.append(actor)
        self._fill()

    def leave(self) -> None:
        """End every rest; who comes after goes on with what rests."""
        for rest in self._resting.values():
            rest.cancel()

    def busy(self, key: str) -> bool:
        """Whether the key has an event in hand."""
        return key in self._actors

    @property
    def quiet(self) -> bool:
        """Whether no event is being handled, nor may be, but for those that rest."""
        return not self._active and (self._paused or not self._ready)

    async def comes_to(self, state: Callable[[], bool], deadline_s: float) -> bool:
        """Wait for a state that the end of a turn brings about, so many seconds at most; return whether it is so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while not state():
                    self._moved.clear()
                    await self._moved.wait()
        return state()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let another key have one's slot, for as long as one waits for somebody else."""
        self._concurrency += 1
        self._fill()
        try:
            yield
        finally:
            self._concurrency -= 1

    def cancel(self) -> None:
        """Stop every handler where it stands; what it did is void."""
        self._ready.clear()
        for task in self._active.values():
            task.cancel()

    def _fill(self) -> None:
        """Begin the turns that there is room for.

        Most wait for nothing, and a task for each is a good part of what they cost. So one task takes them one after
        the other; as soon as one of them waits, each of the others gets a task of its own.
        """
        if self._round is None and self._ready and self._has_room():
            self._round = self._tasks.create_task(self._go_round(), context=self._context.copy())
            asyncio.get_running_loop().call_soon(self._look, self._round)

    def _has_room(self) -> bool:
        return not self._paused and len(self._active) < self._concurrency

    async def _go_round(self) -> None:
        """Take turns until one has waited, or has left something in its context or its task for others to find."""
        task = asyncio.current_task()
        assert task is not None
        while self._round is task and self._ready and self._has_room():
            actor = self._ready.popleft()
            self._active[actor] = task
            await self._turns(actor)
            if task.cancelling() or not _alike(self._context, copy_context()):
                break
        if self._round is task:
            self._round = None
            self._fill()

    def _look(self, begun: asyncio.Task[None]) -> None:
        """A round has run as far as it could. Unless it is over a turn waits, and nobody else may wait for that."""
        if self._round is not begun:
            return
        self._round = None
        if begun.done() or begun.cancelling():
            return
        while self._ready and self._has_room():
            actor = self._ready.popleft()
            self._active[actor] = self._tasks.create_task(self._turns(actor), context=self._context.copy())

    async def _turns(self, actor: Actor) -> None:
        """One key's events until none is left; the slot then goes to the key that waits longest."""
        try:
            await self._take_turns(actor)
        finally:
            del self._active[actor]
            self._moved.set()
        self._fill()

    async def _take_turns(self, actor: Actor) -> None:
        loop = asyncio.get_running_loop()
        while actor.queue:
            work = actor.queue[0]
            if self._paused:
                self._ready.append(actor)
                return
            if self._steps_aside(work):
                actor.queue.popleft()
                continue
            work.started_s = loop.time()
            self.running[work] = None
            actor.at_turn = True
            try:
                await self._turn(actor, work)
            finally:
                self.running.pop(work, None)
                self._moved.set()
                actor.at_turn = False
            if work.stopped:
                work.stopped = False
                if work.rests_s > 0:
                    self._resting[actor] = self._tasks.create_task(self._rest(actor, work.rests_s))
                    return
                continue
            actor.queue.popleft()
            if actor.queue and self._ready:
                # Others wait for a slot: a hot key goes to the end of the line after each event.
                self._ready.append(actor)
                return
        del self._actors[actor.key]

    async def _rest(self, actor: Actor, rests_s: float) -> None:
        """Keep a key waiting, without a slot."""
        await asyncio.sleep(rests_s)
        del self._resting[actor]
        self._ready.append(actor)
        self._fill()


def _alike(one: Context, other: Context) -> bool:
    """Whether two contexts hold the same things. They are not compared by value: that is code of others."""
    return len(one) == len(other) and all(other.get(variable) is value for variable, value in one.items())
