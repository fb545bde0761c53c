"""A run: a handling that may outlive its process, and the journal of what it has done so far."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

import orjson

from hocket.account import Amounts
from hocket.blob import ESCAPED_BYTES_MOST, FRAME_BYTES_MOST, Blob
from hocket.doors import Doors
from hocket.errors import LoopDetected
from hocket.execution import Execution, Suspend, go_no_further
from hocket.failures import Failures
from hocket_schemas.budgets import Purse
from hocket_schemas.envelope import Envelope
from hocket_schemas.undoing import EffectDone

T = TypeVar("T")

STEP = "step"
SLEEP = "sleep"
WAIT = "wait"
EFFECT = "effect"
APPROVAL = "approval"
NOTICE = "notice"
ATTEMPTS = "attempts"
CANCEL = "cancel"
SPEND = "spend"

BEGUN = "begun"
PARKED = "parked"
VOID = "void"
DONE = "done"
UNDONE = "undone"

GIVEN_UP_TICKS = 3
"""How many rounds of the loop a cancellation takes to reach the tasks that a handler has started, with one to spare."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a run did, as its journal keeps it."""

    name: str
    occurrence: int
    """The how-manieth of its name: steps are found again by name and occurrence, not by position."""

    kind: str
    at: str
    """When it was recorded, RFC 3339."""

    phase: str = DONE
    """`begun` for the intent of an effect and the start of a wait, `parked` for an effect that waits for a person,
    `void` for an intent that certainly came to nothing; `done` follows as an entry of its own. `undone` once the
    effect has been taken back."""

    waited: bool = False
    """Whether the run was suspended for it: then the actor's state is read afresh after it."""

    emitted: int = 0
    """Of what the run was suspended for: how many events it had emitted by then. The next one is numbered from there,
    whatever the code emits before the wait when it runs again."""

    digest: str = ""
    """Of the arguments; a different one on replay is shown, and changes nothing."""

    took_s: float = 0.0
    until_s: float | None = None
    """Of a wait: when it ends at the latest, in seconds since the Unix epoch."""

    key: str = ""
    """Of an effect: its idempotency key. Of an approval: its id."""

    saga: str = ""
    """Of an effect: the saga that it belongs to."""

    heeded: int = 0
    """Of an effect: the sequence of the last word of a person about it that was heeded. It says nothing of a later
    call, nor of another one with the same key."""

    arguments: Any = None
    """Of an effect: what it was called with, as JSON: what its undo is called with. See `result`."""

    result: Any = None
    """JSON: as a value, as the bytes of it, or as the name of what is too large to stand here."""

    error: tuple[str, str] | None = None
    """Type and message of a final failure."""

    failures: Failures = ()
    """What the attempts before the last one have failed with."""

    record: Any = None
    """How the result came about. As `result`; until it is stored, what the call has left."""

    @property
    def bytes_most(self) -> int | None:
        """What its body cannot be larger than, reckoned without making it; None: it has to be made to tell."""
        if self.error is not None or self.failures:
            return None
        size = FRAME_BYTES_MOST
        for body in (self.arguments, self.result, self.record):
            if type(body) is bytes:
                size += len(body)
            elif body is not None and type(body) is not Blob:
                return None
        return size + ESCAPED_BYTES_MOST * (len(self.name) + len(self.digest) + len(self.key) + len(self.saga))

    def to_json(self) -> bytes:
        """The journal entry's body. What is as it is by default is left out."""
        members: dict[str, Any] = {"name": self.name, "occurrence": self.occurrence, "kind": self.kind, "at": self.at}
        for name, default in _DEFAULTS:
            value = getattr(self, name)
            if value is default or value == default:
                continue
            if name in _JSON_MEMBERS and isinstance(value, bytes):
                value = orjson.Fragment(value)
            elif isinstance(value, Blob):
                members["large"] = {**members.get("large", {}), name: value}
                continue
            members[name] = value
        return orjson.dumps(members)

    @classmethod
    def from_json(cls, body: bytes) -> "Entry":
        """Read a body back."""
        members = orjson.loads(body)
        error = members.pop("error", None)
        for name, blob in members.pop("large", {}).items():
            members[name] = Blob(**blob)
        return cls(**members, error=(error[0], error[1]) if error else None)


_JSON_MEMBERS = ("arguments", "result", "record")
_DEFAULTS = tuple((member.name, member.default) for member in fields(Entry) if member.default is not MISSING)


class Memory(Protocol):
    """Where a run's journal is kept, and what its calls have to pass."""

    @property
    def doors(self) -> Doors:
        """Breakers and rates, shared with others."""
        ...

    @property
    def agent(self) -> str:
        """Whose run it is."""
        ...

    @property
    def key(self) -> str:
        """The key of the event that it handles."""
        ...

    async def load(self) -> Sequence[tuple[int, Entry]]:
        """Read the journal from the log: entries with their numbers, in order."""
        ...

    async def record(self, entries: Sequence[tuple[int, Entry]], effect: EffectDone | None = None) -> Entry:
        """Store entries with their numbers, together, and with what the saga is told of the effect in the last.

        Returns the last as it stands in the log when it is there.
        """
        ...

    def draw(
        self, number: int, entry: Entry, purse: Purse, amounts: Amounts, *, forced: bool
    ) -> "asyncio.Future[Entry]":
        """Draw from all accounts of a purse and store the entry with that; if it is refused, with an error.

        It is done even if nobody waits for it any more.
        """
        ...

    async def fetch(self, blob: Blob) -> bytes:
        """Read what an entry only names. Raises ResultLost."""
        ...

    def check(self, entry: Entry) -> None:
        """Raise UsageError for an entry that the log cannot take, ResultTooLarge for one that names too much."""
        ...

    async def say(self, execution: int, text: str) -> None:
        """Send a piece of live output to whoever listens."""
        ...

    async def untold(self) -> Sequence[str]:
        """The keys whose state has taken part in the event's saga, and that were not told of its abort yet."""
        ...

    async def answers(self, types: Sequence[str]) -> Sequence[tuple[int, Envelope]]:
        """The key's events and the agent's commands of these types since the run's own event, in log order."""
        ...

    def held(self) -> bool:
        """Whether somebody wants the handling to go no further for now."""
        ...


def _nobody(wait: Entry) -> None:
    """Whom a run tells of its waits that no execution of a handler is under way for."""


@dataclass(slots=True, eq=False)
class Run:
    """What one handling remembers, over executions, crashes and owners. Most handlings do nothing durable."""

    memory: Memory
    emitted: int = 0
    """How many of its emissions are in the log already, committed with an earlier wait."""

    again_from: int | None = None
    """How many events had been emitted when the handling came to its end, and asked to be made again; None: it is the
    first."""

    entries: dict[tuple[str, int], Entry] | None = None
    """The journal; None until the first durable call asks for it."""

    noted: tuple[Entry, ...] = ()
    """Entries that ride with the next append of the run, whatever that is."""

    executions: int = 0
    """How often the handler has begun, in this process."""

    began_s: float = 0.0
    """When its first attempt here began, by the loop's clock."""

    failures: Failures = ()
    """What its latest attempts here have failed with; until it is written down."""

    execution: Execution | None = None
    """The one that is under way; None until it does something durable."""

    cancelled: bool = False
    """Whether somebody wants its end: what is still done is cleanup."""

    interrupt: Callable[[], None] | None = None
    """Cancels the task that executes the handler, once that has come as far as it was when its end was wanted: when all
    of `unmet` is answered, or at the first thing that the journal has no answer to."""

    outside: int = 0
    """How many calls of effects are under way. The handler is not interrupted in their middle, for some time."""

    unmet: set[tuple[str, int]] = field(default_factory=set)
    """What was done until then and was not asked for again yet."""

    task: "asyncio.Task[Any] | None" = None
    """In which the handler is executed, while it is."""

    cancellations: int = 0
    """How often that task was cancelled before, or because somebody wants the run's end."""

    passed: Callable[[Entry], None] = field(default=_nobody)
    """Told each wait that the execution comes past: what was done before it is committed."""

    cleared: str | None = None
    """The approval or the pivot that came before what the execution does now; None: neither."""

    repeats_max: int | None = None
    """Most calls of one name with the same arguments in an execution; None: no limit."""

    purse: Purse = ()
    """The accounts that its calls draw from; empty: no saga that it belongs to has a budget."""

    _draws: dict[tuple[str, int], "asyncio.Future[Entry]"] = field(default_factory=dict)
    """What was asked for of the accounts. An attempt that is cut off leaves its draw to the next one."""

    _begun: tuple[tuple[Entry, Entry | None], ...] = ()
    """Waits that begin with the next append, which is theirs; and what the journal has in their place."""

    recorded: int = 0
    _loading: asyncio.Lock | None = None

    def restart(self, passed: Callable[[Entry], None], cleared: str | None = None) -> None:
        """Begin another execution from the top. `cleared`: as its event says."""
        self.executions += 1
        self.cleared = cleared
        self.execution = None
        self.passed = passed
        for entry, before in self._begun:  # by an execution that failed beside its wait
            assert self.entries is not None, "a run recalls before it begins to wait"
            if before is None:
                del self.entries[entry.name, entry.occurrence]
            else:
                self.entries[entry.name, entry.occurrence] = before
        self._begun = ()

    async def durably(self, call: Coroutine[Any, Any, T]) -> T:
        """Do something durable. Not on the way out of a handler that is cut off: it will be executed again."""
        if self.task is not None and self.task.cancelling() > self.cancellations:
            call.close()
            raise asyncio.CancelledError
        if self.memory.held() and not self.cancelled:
            call.close()
            call = go_no_further()
        self.execution = self.execution or Execution()
        try:
            return await self.execution.do(call)
        except Suspend:
            if self.interrupt is not None:
                self.stop()
                await asyncio.get_running_loop().create_future()
            raise

    @property
    def rest(self) -> Suspend:
        """All that the execution waits for, once it has come to a wait."""
        assert self.execution is not None, "waits are part of an execution"
        assert self.execution.rest is not None, "it has come to a wait"
        return self.execution.rest

    async def settle(self) -> None:
        """End all that the execution still does, and let go of who was told of its waits."""
        self.passed = _nobody  # it knows the run too: together they would stay until the garbage is looked through
        if self.execution is not None:
            await self.execution.settle()

    async def recall(self, name: str, digest: str = "") -> tuple[int, Entry | None]:
        """The next occurrence of a name, and what the journal has of it. `digest` is that of its arguments now."""
        execution = self._now
        occurrence = execution.counts.get(name, 0)
        execution.counts[name] = occurrence + 1
        known = (await self.loaded()).get((name, occurrence))
        if self.cancelled:
            await self._come_to_the_end(name, occurrence, answered=known is not None and known.phase == DONE)
        if known is not None and digest and known.digest and digest != known.digest:
            execution.changed[name, occurrence] = None
        return occurrence, known

    def repeat(self, name: str, digest: str) -> None:
        """Count a call, whether or not the journal answers it, so that every execution counts alike.

        Raises LoopDetected. Arguments that cannot be told apart do not count.
        """
        if digest and self.repeats_max is not None:
            repeats = self._now.repeats
            count = repeats[name, digest] = repeats.get((name, digest), 0) + 1
            if count > self.repeats_max:
                raise LoopDetected("repeats", self.repeats_max, count, what=name, digest=digest)

    def take(self, seq: int) -> bool:
        """Take an answer for a wait; False when an earlier one has it."""
        if seq in self._now.taken:
            return False
        self._now.taken.add(seq)
        return True

    def is_taken(self, seq: int) -> bool:
        """Whether a wait has taken an answer."""
        return seq in self._now.taken

    def clear(self, by: str | None) -> None:
        """Take note of an approval or a pivot."""
        self.cleared = by or self.cleared

    async def loaded(self) -> dict[tuple[str, int], Entry]:
        """The journal, by name and occurrence."""
        if self.entries is None:
            self._loading = self._loading or asyncio.Lock()
            async with self._loading:
                if self.entries is None:
                    entries = await self.memory.load()
                    self.recorded = entries[-1][0] + 1 if entries else 0
                    self.entries = {(e.name, e.occurrence): e for _, e in entries if e.kind not in (NOTICE, ATTEMPTS)}
        return self.entries

    async def remember(self, entry: Entry, effect: EffectDone | None = None) -> Entry:
        """Put an entry into the journal, and tell the saga of the effect that it is about.

        Returns it as it stands there, naming what is large.
        """
        assert self.entries is not None, "a run recalls before it remembers"
        self.memory.check(entry)
        entries = self._numbered([*self.noted, entry])
        self.recorded += len(entries)
        self.noted = ()
        if entry.phase in (DONE, VOID):
            # Before it is stored: an attempt that is cut off here leaves the entry on its way, and the next attempt
            # comes after it in the log. An intent that nobody has acted upon may be made again.
            self.entries[entry.name, entry.occurrence] = entry
        stored = await self.memory.record(entries, effect)
        self.entries[entry.name, entry.occurrence] = stored
        return stored

    async def draw(self, entry: Entry, amounts: Amounts, *, forced: bool = False) -> Entry:
        """Draw from the purse once, and remember that. Returns the entry, which has an error if it was refused."""
        assert self.entries is not None, "a run recalls before it draws"
        place = (entry.name, entry.occurrence)
        drawing = self._draws.get(place)
        if drawing is None:
            [(number, _)] = self._numbered([entry])
            self.recorded += 1
            drawing = self._draws[place] = self.memory.draw(number, entry, self.purse, amounts, forced=forced)
        stored = self.entries[place] = await asyncio.shield(drawing)
        return stored

    async def result_of(self, entry: Entry) -> Any:
        """What an entry of the journal remembers: JSON as a value or as bytes. Raises ResultLost."""
        return await self.memory.fetch(entry.result) if isinstance(entry.result, Blob) else entry.result

    def cancel(self, entry: Entry) -> None:
        """Take note that somebody wants its end: what comes after the entry in the journal is cleanup."""
        place = (entry.name, entry.occurrence)
        if not self.cancelled and place not in (self.entries or ()):
            self.noted = (*self.noted, entry)
        self.cancelled = True
        self.unmet = set()
        for before, known in (self.entries or {}).items():
            if before == place:
                break
            if known.kind != SPEND:  # it is asked for with its call
                self.unmet.add(before)

    async def _come_to_the_end(self, name: str, occurrence: int, *, answered: bool) -> None:
        """Let the cancellation of a handler come through before it does another thing; what comes later is cleanup."""
        self.unmet.discard((name, occurrence))
        if self.interrupt is not None:
            if (not answered or not self.unmet) and not self.outside:
                self.stop()
            if not answered:
                await asyncio.get_running_loop().create_future()
        elif not answered:
            for _ in range(GIVEN_UP_TICKS):
                await asyncio.sleep(0)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Call an effect's function."""
        self.outside += 1
        try:
            yield
        finally:
            self.outside -= 1

    async def halt(self) -> None:
        """Go no further if somebody wants the run's end: an effect that was under way has come to its own."""
        if self.interrupt is not None:
            if not self.outside:
                self.stop()
            await asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Cancel the handler, once; it learns of it wherever it next waits."""
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()

    def note(self, entry: Entry) -> None:
        """Put an entry into the journal with whatever comes next: the log would lead to the same again until then."""
        assert self.entries is not None, "a run recalls before it notes"
        self.memory.check(entry)
        self.noted = (*self.noted, entry)
        self.entries[entry.name, entry.occurrence] = entry

    def begin(self, entry: Entry) -> None:
        """Put an entry into the journal together with the wait that it begins: one append holds both."""
        assert self.entries is not None, "a run recalls before it begins to wait"
        self._begun = (*self._begun, (entry, self.entries.get((entry.name, entry.occurrence))))
        self.entries[entry.name, entry.occurrence] = entry

    def notice(self, at: str) -> Entry | None:
        """What a change of the code, or of its mind, has left in the journal; None: the execution met all of it.

        Vanished: done before, and never asked for by the execution that ended. Changed: asked for with other
        arguments than it was done with.
        """
        now = self._now
        done = [place for place, entry in (self.entries or {}).items() if entry.kind != SPEND]
        gone = [place for place in done if place[1] >= now.counts.get(place[0], 0)]
        if not gone and not now.changed:
            return None
        found = {"vanished": list(map(_told, gone)), "changed": list(map(_told, now.changed))}
        return Entry(NOTICE, 0, NOTICE, at, result=found)

    def of_end(self) -> list[tuple[int, Entry]]:
        """What the last append of the run adds to the journal, with its numbers."""
        return self._numbered(self.noted)

    def of_wait(self, emitted: int) -> list[tuple[int, Entry]]:
        """What the append of a wait adds to the journal, with its numbers."""
        return self._numbered([*self.noted, *(replace(entry, emitted=emitted) for entry, _ in self._begun)])

    @property
    def _now(self) -> Execution:
        self.execution = self.execution or Execution()
        return self.execution

    def _numbered(self, entries: Sequence[Entry]) -> list[tuple[int, Entry]]:
        return list(enumerate(entries, start=self.recorded))


def _told(place: tuple[str, int]) -> str:
    return f"{place[0]} #{place[1] + 1}" if place[1] else place[0]
