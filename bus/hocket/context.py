"""What a handler sees of the world besides its event."""

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, overload

import orjson
from pydantic import BaseModel
from typing_extensions import TypeVar

from hocket import durable, spending
from hocket.account import Spends
from hocket.approval import APPROVE, DENY, Decision, digest_of
from hocket.asking import approve
from hocket.blob import Left
from hocket.calls import as_json
from hocket.clock import utc
from hocket.collect import Awaited, Wanted, collect
from hocket.effect import Effect
from hocket.errors import ForeignShard, UndeclaredEvent, UsageError
from hocket.ids import derived
from hocket.policy import Retry
from hocket.process import Process
from hocket.run import APPROVAL, DONE, Entry, Run
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.children import ChildStarted
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event
from hocket_schemas.sagas import Link

S = TypeVar("S", bound=BaseModel | None, default=None)
E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Event)
G = TypeVar("G", bound=Event)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

History = Callable[[type[Event]], Awaitable[Sequence[Any]]]
"""Reads the key's earlier events of a type, in log order."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last that was heard of a key."""

    at: datetime
    """By the server's clock. In the future while something waits until then."""

    what: str
    """In words, such as `a step of flights`."""


@dataclass(slots=True)
class Emission:
    """An event that a handling wants published, with what it overrides of its cause."""

    event: Event
    key: str | None = None
    saga: str | None = None
    to: str | None = None
    """The agent that alone gets it; None: whoever wants it."""

    cleared: str | None = None
    """The approval or the pivot that came before it; None: neither, unless its cause says otherwise."""

    parent: str | None = None
    """The saga whose child it starts; None: it starts none."""


@dataclass(slots=True)
class Context(Generic[S]):
    """The event's surroundings, the actor's state, and the ways to act.

    Everything done through it is committed with the event, in one append, or not at all; what `step` and
    `sleep` remember is committed as it happens, and read from the journal when the handler runs again.
    """

    envelope: Envelope
    """The event as it travelled: its id, source, time, and extensions."""

    key: str
    """The key whose events this actor handles in order."""

    saga: str
    """The saga that the event belongs to, its correlation id."""

    state: S
    """The actor's state. Change it in place or assign a new one; what it holds at the end is committed.

    After a wait it is read afresh: other events of the key were handled in between.
    """

    cause: str
    """The token of this handling; stable over crashes and retries."""

    agent: str
    process: Process
    allowed: frozenset[type[Event]]
    read_history: History
    read_pulse: Callable[[], Awaitable[Pulse | None]]
    name_at_home: Callable[[str], str]
    """Changes a name as little as it takes to have what bears it on this shard."""

    run: Run
    fresh_state: Callable[[], S]
    attempt: int = 1
    """Which try this is, from 1."""

    emitted: list[Emission] = field(default_factory=list)
    """Since the last wait that the execution has come past."""

    emitted_before: int = 0
    """How many events the run had emitted when that wait began."""

    reminded: bool = False
    """Whether it is handled again because `remind` asked for that."""

    remind_s: float | None = None
    """After what time it is to be handled again; None: never."""

    dismisses: bool = False
    """Whether the actor's waiting runs end with what was done since the last wait."""

    seq: int = 0
    """Where in the log the event stands."""

    over: bool = False
    """Whether the execution that it was made for has ended: nothing durable can be done any more."""

    _names: int = 0

    def emit(self, event: Event, *, key: str | None = None, saga: str | None = None, to: str | None = None) -> None:
        """Publish an event when this handling is committed; with `to` as a command, to that agent alone.

        It inherits the key and the saga of its cause unless told otherwise. Raises UndeclaredEvent when
        neither the return annotation nor `emits` names its type; what an agent tells itself is its own business.
        """
        if type(event) not in self.allowed and to != self.agent:
            raise UndeclaredEvent(
                f"{type(event).__qualname__} is not declared as emitted by this handler; "
                "add it to the return annotation or to on(…, emits=[…]), and to agent.toml"
            )
        self.emitted.append(Emission(event, key, saga, to, self.run.cleared))

    def start(self, event: Event, *, saga: str | None = None, key: str | None = None, link: Link | None = None) -> str:
        """Start another saga as a child of this one when this handling is committed, and return its id.

        The event is its first. The id follows from this handling unless it is given, and the key is the id. `link`
        says what the two have to do with each other; None: as the policy that the event starts has it. How the child
        ended is told on the key that is this saga's id, by `hocket.child.ended.v1`. Raises UndeclaredEvent as `emit`
        does, and UsageError for a saga that would be its own parent.
        """
        child = saga or self.name_at_home(f"{self.cause}-{self.emitted_before + len(self.emitted)}")
        if child == self.saga:
            raise UsageError(f"saga {child!r} cannot be its own child; emit the event instead")
        if self.name_at_home(child) != child:
            raise ForeignShard(f"saga {child!r} lives on another shard than its parent; have its id made for it")
        self.emit(event, key=key or child, saga=child)
        self.emitted[-1].parent = self.saga
        self.emitted.append(Emission(ChildStarted(child=child, starts=event.event_type, link=link)))
        return child

    def remind(self, after: timedelta | float) -> None:
        """Have the event handled again after this time, with `reminded` set, unless the actor dismisses that before.

        Seconds or a timedelta; never early. The lightest of timers: this handling ends, and all that stays is a record.
        Only for a handling that does nothing else durably; raises UsageError at its end if it did.
        """
        self.remind_s = _seconds(after)

    def dismiss(self) -> None:
        """End the actor's runs that wait, and its reminders, with the commit of this handling.

        They do not go on, not even to clean up: what they waited for matters no more.
        """
        self.dismisses = True

    @overload
    async def step(self, function: Callable[P, Awaitable[R]], *arguments: P.args, **keywords: P.kwargs) -> R: ...
    @overload
    async def step(self, function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R: ...
    async def step(self, function: Callable[P, Any], *arguments: P.args, **keywords: P.kwargs) -> Any:
        """Call a function and remember what it returned: after a crash it is read from the journal, not called.

        A function that is not async runs in a thread. The result comes back as the return annotation says, the
        first time too, so that it never depends on a crash. A failure is not remembered: it is the handler's, and
        the handler's retry calls again. `step_with` gives the step a name and a retry policy of its own.

        An effect (`@agent.effect`) is done once: its intent is in the log before the call, its outcome after it.
        """
        if isinstance(function, Effect):
            call = durable.effect(
                self.run, self.process, function, arguments, keywords, agent=self.agent, saga=self.saga
            )
        else:
            name = function.__qualname__
            call = durable.step(self.run, self.process, function, arguments, keywords, name=name, retry=None)
        return await self._durably(call)

    @overload
    async def step_with(
        self,
        function: Callable[..., Awaitable[R]],
        *arguments: Any,
        step_name: str | None = ...,
        step_retry: Retry | None = ...,
        step_polls: bool = ...,
        step_timeout_s: float | None = ...,
        step_spends: Spends | None = ...,
        step_spent: Callable[[R], Spends] | None = ...,
        step_leaves: Callable[[], Left | None] | None = ...,
        **keywords: Any,
    ) -> R: ...
    @overload
    async def step_with(
        self,
        function: Callable[..., R],
        *arguments: Any,
        step_name: str | None = ...,
        step_retry: Retry | None = ...,
        step_polls: bool = ...,
        step_timeout_s: float | None = ...,
        step_spends: Spends | None = ...,
        step_spent: Callable[[R], Spends] | None = ...,
        step_leaves: Callable[[], Left | None] | None = ...,
        **keywords: Any,
    ) -> R: ...
    async def step_with(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        step_name: str | None = None,
        step_retry: Retry | None = None,
        step_polls: bool = False,
        step_timeout_s: float | None = None,
        step_spends: Spends | None = None,
        step_spent: Callable[[Any], Spends] | None = None,
        step_leaves: Callable[[], Left | None] | None = None,
        **keywords: Any,
    ) -> Any:
        """The same as `step`, with a name other than the function's, or with a retry policy of its own.

        When that policy is exhausted the failure is final: it is remembered, and raised as StepFailed now and
        whenever the handler runs again. `step_polls` lets the run call it with the same arguments as often as it
        likes; otherwise `Limits.repeats_max` takes that for a loop. A call that takes longer than `step_timeout_s`
        has failed, with StepTimeout. `step_spends` is reserved before the call, in a saga with a budget; what
        `step_spent` tells of the result takes its place.

        `step_leaves` is asked after the call what the journal is to keep beside the result, in the same append: how it
        came about, for whoever asks why.
        """
        call = durable.step(
            self.run,
            self.process,
            function,
            arguments,
            keywords,
            name=step_name or function.__qualname__,
            retry=step_retry,
            polls=step_polls,
            timeout_s=step_timeout_s,
            spends=step_spends,
            spent=step_spent,
            leaves=step_leaves,
        )
        return await self._durably(call)

    async def spend(self, *, tokens: int = 0, cost: float = 0.0) -> None:
        """Draw from the budget of the saga, and from those of the sagas that it was begun in; nothing without one.

        It is remembered like a step: once, whatever crashes. Raises BudgetExceeded when any of them has too little
        left; then nothing is drawn, and that is remembered too. An effect says what it `spends` in its declaration.
        """
        await self._durably(spending.spend(self.run, self.process, Spends(tokens=tokens, cost=cost)))

    async def sleep(self, delay: timedelta | float) -> None:
        """Let time pass, from milliseconds to months, durably: the run's memory is released meanwhile.

        Seconds or a timedelta. Never ends early. The actor takes its next events meanwhile; what was changed
        and emitted before is committed with the sleep, and `state` is read afresh after it.
        """
        await self._durably(durable.sleep(self.run, self.process, _seconds(delay)))

    async def wait(
        self,
        *types: type[E],
        where: Callable[[E], bool] | None = None,
        timeout: timedelta | float | None = None,
    ) -> E:
        """Wait for an event of this key, of any of these types: the first that `where` lets through.

        It counts from the run's own event on, so one that came before the wait was reached is found; and each
        wait of a run takes another event. The types have to stand in `on(…, waits=[…])`. Raises WaitExpired
        when none came in time; a later one changes nothing any more.
        """
        delay_s = None if timeout is None else _seconds(timeout)
        event = await self._durably(durable.wait(self.run, self.process, types, where=where, delay_s=delay_s))
        result: E = event  # type: ignore[assignment]  # read as one of the types asked for
        return result

    @overload
    async def first(self, one: type[E] | Awaited[E], /, *, timeout: timedelta | float | None = None) -> E: ...
    @overload
    async def first(
        self, one: type[E] | Awaited[E], two: type[F] | Awaited[F], /, *, timeout: timedelta | float | None = None
    ) -> E | F: ...
    @overload
    async def first(
        self,
        one: type[E] | Awaited[E],
        two: type[F] | Awaited[F],
        three: type[G] | Awaited[G],
        /,
        *,
        timeout: timedelta | float | None = None,
    ) -> E | F | G: ...
    @overload
    async def first(self, *awaited: type[Event] | Awaited[Any], timeout: timedelta | float | None = None) -> Event: ...
    async def first(self, *awaited: type[Event] | Awaited[Any], timeout: timedelta | float | None = None) -> Event:
        """Wait for whichever comes first in the log, each with a condition of its own; `match` tells which it was.

        ```python
        match await ctx.first(PaymentReceived, Awaited(TripChanged, where=lambda change: change.urgent)):
        ```

        The same as `wait` in everything else.
        """
        wanted = [each if isinstance(each, Awaited) else Awaited(each) for each in awaited]
        return await self.wait(
            *dict.fromkeys(each.event for each in wanted),
            where=lambda event: any(each.fits(event) for each in wanted),
            timeout=timeout,
        )

    async def collect(
        self,
        *types: type[E],
        count: int,
        quorum: int | None = None,
        where: Callable[[E], bool] | None = None,
        distinct: Callable[[E], Hashable] | None = None,
        timeout: timedelta | float | None = None,
    ) -> list[E]:
        """Wait for `count` events of this key, of any of these types, and return them in log order.

        What counts: events that `where` lets through, from the run's own event on, so one that came before the
        wait was reached does; with `distinct`, only the first of those for which it gives the same. Once there are
        enough they are taken together, and no other wait of the run takes them again. What did not count, and what
        comes later, stays for other waits.

        When the time is up, `quorum` of them are enough; all of them unless told otherwise. Raises WaitExpired when
        there are fewer. The types have to stand in `on(…, waits=[…])`.
        """
        if quorum is not None and timeout is None:
            raise UsageError("a quorum counts when the time is up; give a timeout")
        wanted = Wanted(count, count if quorum is None else quorum, where, distinct)
        delay_s = None if timeout is None else _seconds(timeout)
        events = await self._durably(collect(self.run, self.process, types, wanted, delay_s=delay_s))
        result: list[E] = events  # type: ignore[assignment]  # read as the types asked for
        return result

    async def ask(self, event: Event, *, reply: type[E], timeout: timedelta | float | None = None) -> E:
        """Emit an event and wait for the first answer to it: an event of type `reply` that handling it emitted.

        The answer has to come on the same key, and `reply` has to stand in `on(…, waits=[…])`. Raises
        WaitExpired when none came in time.
        """
        self.emit(event)
        question = f"{self.cause}.{self.emitted_before + len(self.emitted) - 1}"
        delay_s = None if timeout is None else _seconds(timeout)
        waiting = durable.wait(self.run, self.process, [reply], where=None, delay_s=delay_s, caused_by=question)
        answer = await self._durably(waiting)
        result: E = answer  # type: ignore[assignment]  # read as the type asked for
        return result

    async def approve(
        self,
        question: str,
        *,
        details: Any = None,
        options: Sequence[str] = (APPROVE, DENY),
        approvers: Sequence[str] = (),
        quorum: int = 1,
        timeout: timedelta | float | None = None,
        escalate_after: timedelta | float | None = None,
        escalate_to: Sequence[str] = (),
    ) -> Decision:
        """Ask people, and wait for as long as it takes, or until `timeout`.

        They decide on exactly what they are shown: question, details (anything that is JSON or a model) and
        options, of which the first goes ahead. It takes `quorum` of the `approvers` (nobody named: anybody);
        any other option decides at once. After the timeout the decision is `expired`.

        With nothing decided `escalate_after` the question, the same is asked of `escalate_to` as well, by an event
        of its own. From then on they may decide too; what was decided before counts, and the timeout goes on.
        """
        delay_s = None if timeout is None else _seconds(timeout)
        after_s = None if escalate_after is None else _seconds(escalate_after)
        if (after_s is None) != (not escalate_to):
            raise UsageError("an escalation wants both: escalate_after and escalate_to")
        if after_s is not None and not approvers:
            raise UsageError("anybody may decide from the start; name approvers, or do not escalate")
        if after_s is not None and delay_s is not None and after_s >= delay_s:
            raise UsageError(f"an escalation after {after_s} s never comes: the timeout is {delay_s} s")
        shown = orjson.loads(as_json(details))
        request = ApprovalRequested(
            approval=self.cause,
            agent=self.agent,
            question=question,
            details=shown,
            digest=digest_of(question, shown, options),
            options=list(options),
            approvers=list(approvers),
            quorum=quorum,
            escalate_to=list(escalate_to),
        )
        asking = approve(self.run, self.process, request, delay_s=delay_s, escalate_after_s=after_s, ask=self._ask)
        return await self._durably(asking)

    async def stream(self, text: str) -> None:
        """Say something to whoever listens now, such as a model's tokens as they come.

        It goes out at once and is not stored; whoever comes late, or lost the connection, gets it again from the
        start for as long as this handling lasts. What has to stay is emitted as an event. Raises StreamTooLong.
        """
        await self.run.memory.say(self.run.executions, text)

    async def history(self, event: type[E]) -> Sequence[E]:
        """The key's events of one type that are older than the one being handled, in log order.

        The log is the memory: what was said once need not be copied into state. Read again after a crash
        it gives the same, since what lies before an event no longer changes.
        """
        return await self.read_history(event)

    async def pulse(self) -> Pulse | None:
        """The last that anybody but this agent has done on this key, for whoever watches over it; None: nothing.

        All counts that the log holds under the key: events, steps, states, dead letters. While a run there waits for
        a time, or for an event until then, that is its end; while one asks people it is now. Another reading may find
        more, also when this handling is repeated, and each reads everything: so ask seldom.
        """
        return await self.read_pulse()

    def now(self) -> datetime:
        """The time now by the server's clock, in UTC."""
        return utc(self.process.clock.now_s())

    def uuid(self) -> str:
        """An id that is the same when this handling is repeated: the n-th call gives the n-th id."""
        self._names += 1
        return derived(self.cause, str(self._names))

    def _durably(self, call: Coroutine[Any, Any, T]) -> Awaitable[T]:
        if self.over:
            call.close()
            raise UsageError("the handler has ended, and a task that it left behind goes on; wait for it")
        return self.run.durably(call)

    def _ask(self, event: Event) -> None:
        self.emitted.append(Emission(event))

    def go_on(self, wait: Entry) -> None:
        """After a wait what was emitted before is in the log, and so is what was changed: the state is read afresh."""
        if wait.kind == APPROVAL and wait.phase == DONE and wait.result["approved"]:
            self.run.clear(wait.key)
        self.emitted.clear()
        self.emitted_before = wait.emitted
        self.dismisses = False
        self.state = self.fresh_state()


def _seconds(delay: timedelta | float) -> float:
    return delay.total_seconds() if isinstance(delay, timedelta) else delay
