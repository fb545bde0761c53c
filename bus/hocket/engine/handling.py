"""What one agent makes of one event: decode, handle, decide. Nothing here writes to the log."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydantic_core import PydanticSerializationError

from hocket.agent import Agent, Handler
from hocket.clock import rfc3339
from hocket.context import Context, Emission, Pulse
from hocket.engine.attempt import call
from hocket.engine.deadletter import dead_letter
from hocket.engine.failures import take_note
from hocket.engine.limits import of_loop
from hocket.engine.pulse import pulse_of
from hocket.engine.purses import carried, purse_of
from hocket.errors import (
    AttemptsExhausted,
    BadReturn,
    FinalFailure,
    ForeignShard,
    HandlerCancelled,
    HocketError,
    LogError,
    LoopDetected,
    MalformedEvent,
    NotCalled,
    NotFound,
    UsageError,
)
from hocket.execution import Suspend
from hocket.failures import Failures, told
from hocket.ids import cause_of
from hocket.log.base import APPEND_MESSAGES_MAX, Log, Message, Write
from hocket.policy import Retry
from hocket.process import Process
from hocket.run import Run
from hocket.subjects import Address, Names, address, at_home, shard_of
from hocket.telemetry import (
    ATTRIBUTE_AGENT,
    ATTRIBUTE_ATTEMPT,
    ATTRIBUTE_CONVERSATION,
    ATTRIBUTE_EVENT_ID,
    ATTRIBUTE_EVENT_TYPE,
    SPAN_HANDLE,
    span,
    tracing,
)
from hocket_schemas import gate
from hocket_schemas.approvals import ApprovalDecided, ApprovalRefused
from hocket_schemas.budgets import Purse
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event
from hocket_schemas.runtime import ScheduleDue
from hocket_schemas.sagas import budgeted
from hocket_schemas.undoing import EffectDone

T = TypeVar("T")

EMITTED_MAX = APPEND_MESSAGES_MAX - 10
"""Most events from one handling: they go in one append, with room for its records."""

EVENT_HEADERS = {"Content-Type": gate.CONTENT_TYPE}
"""What makes a stored event structured mode for readers that are not hocket."""


OWN_TYPES = "hocket."
"""What the type of a fact that the runtime states begins with."""

LIKE_ANY = (ScheduleDue.event_type, "hocket.memory.")
"""What begins so and is an event like any other: work that came due, and what agents remember."""


class Received(NamedTuple):
    """An event that passed the gate, with the handler that it is for."""

    message: Message
    envelope: Envelope
    event: Event
    handler: Handler
    key: str
    saga: str
    cause: str
    purse: Purse = ()
    """The accounts that it draws from."""


class Done(NamedTuple):
    """The handler came to its end."""

    events: list[Write]
    home: bool
    """Whether all events stay on the cause's own key, for whoever wants them."""

    state: bytes
    """The actor's state now; empty for an agent without state."""

    value: Any
    remind_s: float | None
    """After what time the event is to be handled again."""

    dismisses: bool
    """Whether the actor's waiting runs end with this."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The handler came to a wait: what it did so far is committed, and it goes on later."""

    suspend: Suspend
    done: Done | None
    """None: the wait was begun before, and everything up to it is committed."""


@dataclass(frozen=True, slots=True)
class Held:
    """The handler came to a durable call that may not be made for now. What it did since its last wait is void."""

    until_s: float | None = None
    """When it may be asked for again, in seconds since the Unix epoch; None: when somebody says so."""


@dataclass(frozen=True, slots=True)
class Again:
    """The attempt failed; another may succeed."""

    wait_s: float
    error: Exception


@dataclass(frozen=True, slots=True)
class Dead:
    """No attempt will succeed."""

    error: Exception
    attempts: int
    events: tuple[Write, ...] = ()
    """What is said of it besides its dead letter."""

    failures: Failures = ()
    """What the attempts before the last one failed with."""

    then: str = ""
    """What is to follow besides its dead letter; empty: nothing."""


Outcome = Done | Waits | Held | Again | Dead


class Handling:
    """The middle of an event's life, for one agent on one shard."""

    def __init__(
        self, agent: Agent[Any], log: Log, shards: int, process: Process, interrupted: Callable[[LogError], None]
    ) -> None:
        self._agent = agent
        self._log = log
        self._shards = shards
        self._process = process
        self._interrupted = interrupted
        self._tracing = tracing()  # once: it looks into the environment
        self._source = f"/{log.domain}/{agent.name}"
        self.names = Names(log.domain, log.shard)
        self.leaving: Callable[[], bool] = lambda: True
        """Whether handlers are being cut off where they stand, since the tenure ends or the process stops."""

        self.budgeted = budgeted()
        """The policies with a budget that are known here, by the type of their starting event."""

    def receive(self, message: Message, where: Address | None) -> Received | Dead:
        """Pass the gate: bytes become an event, or a dead letter that says what is wrong with them."""
        try:
            where = where or address(message.subject)
            envelope = read(message)
            handler = self._agent.handler_for(envelope.type, envelope.data)
            if handler is None or envelope.type != where.type:
                raise MalformedEvent(f"type {envelope.type!r} does not belong under {message.subject!r}")
            if (envelope.partitionkey or where.key) != where.key:
                raise MalformedEvent(f"key {envelope.partitionkey!r} does not belong under {message.subject!r}")
            event = gate.event_of(envelope, handler.event)
            saga = envelope.correlationid or where.key
            known = envelope.hkbudget or self.budgeted
            purse = purse_of(envelope, saga, message.time_ns, self.budgeted) if known else ()
        except (MalformedEvent, NotFound) as error:
            return Dead(error, 0)
        cause = cause_of(self._agent.name, envelope.source, envelope.id)
        received = Received(message, envelope, event, handler, where.key, saga, cause, purse)
        hops_max = self._agent.limits.hops_max
        if envelope.hkhops > hops_max and not is_own(envelope.type):
            return self._looped(received, LoopDetected("hops", hops_max, envelope.hkhops), 0, 0)
        return received

    def refused(self, message: Message, envelope: Envelope, decided: ApprovalDecided, reason: str) -> Write:
        """The event that tells somebody why a decision counts for nothing."""
        event = ApprovalRefused(approval=decided.approval, by=decided.by, reason=reason)
        cause = cause_of(self._agent.name, envelope.source, envelope.id)
        key = address(message.subject).key
        received = Received(message, envelope, decided, _NOBODY, key, envelope.correlationid or key, cause)
        time = rfc3339(self._process.clock.now_s())
        return self._write(received, Emission(event), 0, time, envelope.traceparent)

    def effect_done(self, received: Received, done: EffectDone) -> Write:
        """What a handling's saga has to know of an effect; its id is the effect's key, however often that is said."""
        return self.told(received._replace(cause=done.effect_key), done, 0)

    def told(self, received: Received, event: Event, i: int, *, saga: str | None = None) -> Write:
        """An event of the runtime's own about a handling, as its i-th; in its saga unless told otherwise."""
        time = rfc3339(self._process.clock.now_s())
        return self._write(received, Emission(event, saga=saga), i, time, received.envelope.traceparent)

    def _looped(self, received: Received, looped: LoopDetected, attempts: int, i: int) -> Dead:
        """The end of a handling that goes round in circles; an event tells of it, as its i-th."""
        event = of_loop(looped, agent=self._agent.name, event=received.envelope.id)
        return Dead(looped, attempts, (self.told(received, event, i),))

    async def attempt(self, received: Received, state: Any, number: int, run: Run, fresh: Callable[[], Any]) -> Outcome:
        """Run the handler once, and decide what its end means."""
        handler = received.handler
        error: Exception
        context: Context[Any] = Context(
            envelope=received.envelope,
            key=received.key,
            saga=received.saga,
            state=state,
            cause=received.cause,
            agent=self._agent.name,
            process=self._process,
            allowed=handler.emits,
            read_history=lambda event: self._history(received, event),
            read_pulse=lambda: self._pulse(received.key),
            name_at_home=lambda name: at_home(name, self._log.shard, self._shards),
            run=run,
            fresh_state=fresh,
            attempt=number,
            seq=received.message.seq,
            emitted_before=run.again_from or 0,
            reminded=run.again_from is not None,
        )
        run.repeats_max = self._agent.limits.repeats_max
        run.purse = () if is_own(received.envelope.type) else received.purse  # what undoes has to be done
        run.restart(context.go_on, received.envelope.hkcleared)
        if number == 1:
            run.began_s = asyncio.get_running_loop().time()
        task = run.task
        assert task is not None, "it is executed so that it can be interrupted"
        cancellations = task.cancelling()
        try:
            if not self._tracing:
                result = await call(handler, received.event, context)
                return self._done(received, context, result, received.envelope.traceparent)
            attributes = _attributes(self._agent.name, received, number)
            with span(SPAN_HANDLE, attributes, traceparent=received.envelope.traceparent) as trace:
                result = await call(handler, received.event, context)
                return self._done(received, context, result, trace)
        except Suspend:
            return self._suspended(received, context, run.rest)
        except NotCalled as refusal:
            return Held(self._process.clock.now_s() + refusal.retry_after_s)
        except asyncio.CancelledError as cause:
            own = task.cancelling() - cancellations
            if own and (self.leaving() or run.cancellations > cancellations):
                raise  # somebody wants the end of this
            for _ in range(own):
                task.uncancel()
            what = "it has cancelled its own task" if own else "it awaited what was cancelled"
            error = HandlerCancelled(f"{what}, by nobody who wants its end")
            error.__cause__ = cause
        except LoopDetected as looped:
            return self._looped(received, looped, number, run.emitted)
        except (FinalFailure, UsageError) as misuse:
            return Dead(misuse, number)  # the same code will do the same again
        except Exception as cause:  # noqa: BLE001 - around a handler: whatever it raises is the event's fate, not ours
            error = cause
        return self._failed(handler, error, number, run)

    def _failed(self, handler: Handler, error: Exception, number: int, run: Run) -> Again | Dead:
        """Whether there is another attempt after one that raised."""
        spent_s = asyncio.get_running_loop().time() - run.began_s
        wait_s = handler.retry.wait_s(number, error, self._process.rng, spent_s=spent_s)
        if wait_s is not None and getattr(error, "on_exhausted", None) is None:
            take_note(run, rfc3339(self._process.clock.now_s()), told(error))
            return Again(wait_s, error)
        return Dead(_exhausted(error, number), number)

    def _suspended(self, received: Received, context: Context[Any], wait: Suspend) -> Outcome:
        """What an execution comes to that ended at a wait, or where it may not go on."""
        if wait.held:
            return Held(wait.until_s)
        if wait.replayed:
            return Waits(wait, None)
        try:
            return Waits(wait, self._done(received, context, None, received.envelope.traceparent))
        except (BadReturn, UsageError) as misuse:
            return Dead(misuse, context.attempt)

    def fresh_state(self) -> Any:
        """The state of an actor that was never seen."""
        return self._agent.state_type() if self._agent.state_type else None

    def read_state(self, body: bytes) -> Any:
        """An actor's state from its record.

        Raises UsageError when it no longer fits its type: that is a fault of the program, and no event's.
        """
        state_type = self._agent.state_type
        if state_type is None:
            return None
        try:
            return state_type.model_validate_json(body)
        except ValueError as error:
            raise UsageError(
                f"{self._agent.name}: stored state does not fit {state_type.__qualname__}: {error}; "
                "give new fields a default, or keep the old ones"
            ) from error

    def dead_letter(self, message: Message, key: str, dead: Dead) -> Write:
        """The record that an event could not be handled, and why."""
        return dead_letter(
            self.names,
            message,
            key,
            dead.error,
            attempts=dead.attempts,
            agent=self._agent.name,
            version=self._agent.version,
            time=rfc3339(self._process.clock.now_s()),
            kept=self._agent.limits.dead_kept,
            failures=dead.failures,
            then=dead.then,
        )

    async def _history(self, received: Received, event: type[Event]) -> Sequence[Event]:
        """The key's older events of one type; what the gate refuses was dead-lettered and is left out."""
        pattern = self.names.events_of_key(received.key, event.event_type)
        return await self.unless_interrupted(self._events_before(received, event, pattern))

    async def _pulse(self, key: str) -> Pulse | None:
        reading = pulse_of(self._log, self.names, key, self._agent.name, self._process.clock.now_s())
        return await self.unless_interrupted(reading)

    async def unless_interrupted(self, reading: Awaitable[T]) -> T:
        """Read on a handler's behalf. When the log does not answer, that is no failure of the handler's.

        Its tenure ends then, and with it the handler, which the next tenure begins again.
        """
        try:
            return await reading
        except LogError as error:
            self._interrupted(error)
            cancelled: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            return await cancelled

    async def _events_before(self, received: Received, event: type[Event], pattern: str) -> Sequence[Event]:
        found: list[Event] = []
        async with aclosing(self._log.scan([pattern])) as messages:
            async for message in messages:
                if message.seq >= received.message.seq:
                    break
                try:
                    found.append(gate.event_of(read(message), event))
                except MalformedEvent:
                    continue
        return found

    def _done(self, received: Received, context: Context[Any], result: Any, trace: str | None) -> Done:
        """Turn what the handler gave back into writes. Raises BadReturn, UndeclaredEvent, ForeignShard."""
        for event in _events_of(result):
            context.emit(event)
        if context.remind_s is not None and context.run.entries:
            raise UsageError("a handling that asks to be reminded does nothing else durably")
        if len(context.emitted) > EMITTED_MAX:
            raise BadReturn(f"{len(context.emitted)} events from one handling, the limit is {EMITTED_MAX}")
        time = rfc3339(self._process.clock.now_s()) if context.emitted else ""
        writes = [
            self._write(received, emission, i, time, trace)
            for i, emission in enumerate(context.emitted, start=context.emitted_before)
            if i >= context.run.emitted
        ]
        home = all((e.key or received.key) == received.key and e.to is None for e in context.emitted)
        return Done(writes, home, self._dump(context.state), context.state, context.remind_s, context.dismisses)

    def _write(self, received: Received, emission: Emission, i: int, time: str, trace: str | None) -> Write:
        """One emitted event as it will be stored."""
        event, cause = emission.event, received.envelope
        key = emission.key or received.key
        if shard_of(key, self._shards) != self._log.shard:
            raise ForeignShard(
                f"{event.event_type} to key {key!r}, which lives on shard {shard_of(key, self._shards)}, "
                f"from shard {self._log.shard}: keep the cause's key {received.key!r}"
            )
        members: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{received.cause}.{i}",
            "source": self._source,
            "type": event.event_type,
            "time": time,
            "partitionkey": key,
            "correlationid": emission.saga or received.saga,
            "causationid": cause.id,
            # What the runtime says is no hop: a saga may have more to undo than a chain of events may be long.
            "hkhops": cause.hkhops + (not is_own(event.event_type)),
            "hkversion": self._agent.version,
            "data": _data(event),
        }
        cleared, parent = emission.cleared or cause.hkcleared, cause.hkparent
        if members["correlationid"] != received.saga:
            cleared, parent = None, emission.parent
        if received.purse:
            members |= carried(received.purse, members["correlationid"])
        if cleared is not None:
            members["hkcleared"] = cleared
        if parent is not None:
            members["hkparent"] = parent
        if trace is not None:
            members["traceparent"] = trace
            if cause.tracestate is not None:
                members["tracestate"] = cause.tracestate
        try:
            body = gate.encode(members)
        except MalformedEvent as error:
            raise BadReturn(str(error)) from error
        if len(body) > self._agent.limits.event_bytes_max:
            raise BadReturn(
                f"{event.event_type} is {len(body)} bytes, the limit is {self._agent.limits.event_bytes_max}"
            )
        if emission.to is None:
            subject = self.names.event(key, self._agent.name, received.cause, i, event.event_type)
        else:
            subject = self.names.command(emission.to, key, received.cause, i, event.event_type)
        return Write(subject, body, ttl=event.retention, headers=EVENT_HEADERS)

    def _dump(self, state: Any) -> bytes:
        if self._agent.state_type is None:
            return b""
        if not isinstance(state, self._agent.state_type):
            raise BadReturn(f"ctx.state is {type(state).__qualname__}, not {self._agent.state_type.__qualname__}")
        try:
            body: bytes = state.__pydantic_serializer__.to_json(state)
        except (PydanticSerializationError, ValueError) as error:
            raise BadReturn(f"ctx.state cannot be written as JSON: {error}") from error
        if len(body) > self._agent.limits.state_bytes_max:
            raise BadReturn(f"state is {len(body)} bytes, the limit is {self._agent.limits.state_bytes_max}")
        return body


def is_own(event_type: str) -> bool:
    """Whether an event is a fact that the runtime states, and not work like any other."""
    return event_type.startswith(OWN_TYPES) and not event_type.startswith(LIKE_ANY)


def read(message: Message) -> Envelope:
    """What a stored message holds. Raises MalformedEvent."""
    return gate.read(message.data, message.headers.get("Content-Type"), message.headers)


async def _nothing(event: Event) -> None:
    """Commands have no handler of their own."""


_NOBODY = Handler(ApprovalDecided, _nothing, False, frozenset(), frozenset(), Retry(), None)


def _events_of(result: Any) -> Sequence[Event]:
    if result is None:
        return ()
    if isinstance(result, Event):
        return (result,)
    if isinstance(result, list | tuple) and all(isinstance(event, Event) for event in result):
        return result
    raise BadReturn(f"the handler returned {type(result).__qualname__}, wants an event, a list of events, or None")


def _data(event: Event) -> Any:
    try:
        return event.model_dump(mode="json")
    except (PydanticSerializationError, ValueError) as error:
        raise BadReturn(f"{event.event_type} cannot be written as JSON: {error}") from error


def _exhausted(error: Exception, attempts: int) -> Exception:
    if isinstance(error, HocketError):
        return error
    exhausted = AttemptsExhausted(f"{attempts} attempts, the last: {type(error).__name__}: {error}")
    exhausted.__cause__ = error
    return exhausted


def _attributes(agent: str, received: Received, attempt: int) -> dict[str, Any]:
    return {
        ATTRIBUTE_EVENT_ID: received.envelope.id,
        ATTRIBUTE_EVENT_TYPE: received.envelope.type,
        ATTRIBUTE_AGENT: agent,
        ATTRIBUTE_CONVERSATION: received.saga,
        ATTRIBUTE_ATTEMPT: attempt,
    }
