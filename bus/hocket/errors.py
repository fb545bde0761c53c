"""Every error of the runtime, below the root that the contracts share.

HocketError
├── ContractError …             see hocket_schemas.errors
├── LogError                    the log refused or could not answer
│   ├── Conflict                something expected of the log is not so; nothing was stored
│   ├── OutcomeUnknown          no answer came: it may be stored or not
│   ├── Unavailable             the log cannot be reached; nothing was stored
│   ├── StorageFull             the log has no room; nothing was stored
│   ├── AppendTooLarge          the append exceeds what the log takes; nothing was stored
│   ├── PermissionDenied        the credentials do not allow this subject
│   ├── ConsumerLost            deliveries stopped or have a gap: read again from the cursor
│   ├── TopologyMismatch        a stream exists with a configuration that breaks a promise
│   └── ServerTooOld            the server lacks what the append protocol needs
├── Fenced                      another worker owns this agent and shard now
├── UsageError                  the program asks for something that cannot be
│   ├── BadManifest             agent.toml cannot be read
│   ├── BadService              a folder cannot be loaded as a service
│   ├── ManifestMismatch        agent.toml and the code disagree
│   ├── UndeclaredEvent         a handler emits what its manifest does not name
│   ├── ForeignShard            an emit to a key that lives on another shard
│   ├── ResultTooLarge          a step or an effect is to remember more than the log takes
│   ├── NotCleared              something irreversible is to happen that nobody has approved of
│   └── BadKey                  a key that no subject can carry
├── HandlingFailed              why an event was dead-lettered
│   ├── AttemptsExhausted       every attempt failed
│   ├── HandlerTimeout          an attempt took too long
│   ├── HandlerCancelled        an attempt ended with a cancellation that nobody had asked for
│   ├── ProcessEnded            every attempt ended the process that made it
│   ├── LoopDetected            a chain of causes is too long, or one run repeats itself
│   └── FinalFailure            another attempt would come to the same
│       ├── BudgetExceeded      a call would go beyond what its saga may use up
│       ├── AccountLost         what a saga has spent cannot be read any more
│       ├── ResultLost          what a step returned is not in the log any more, or damaged
│       └── BadReturn           a handler returned what is no event
├── NothingRuns                 there is no running system to talk to
├── NotReady                    a system did not come up in time
├── DecisionRefused             somebody's decision on an approval would count for nothing
├── StreamTooLong               a handling streamed more live output than is kept
├── NotCalled                   an effect was not called, and nothing has happened outside
│   ├── CircuitOpen             its breaker lets nobody through for now
│   └── RateExceeded            it would be called more often than it may be
├── CopyError                   a copy of a domain cannot be taken, read or brought back
│   ├── BadCopy                 a file is no copy, or a damaged one
│   ├── CopyTooNew              a copy is of a format that this version does not know
│   ├── DomainInUse             a domain is not empty, or agents are at work in it
│   ├── NeverQuiet              the log did not stand still for the moment that a copy takes
│   └── FileUnwritable          a file cannot be written: no room, no permission
├── WaitExpired                 what a run waited for did not come in time
├── StepTimeout                 a call of a step or an effect took too long
├── StepFailed                  a step of a run failed for good, now or before a crash
└── NotFound                    the event, key or saga asked for is not in the log
"""

from collections.abc import Mapping
from typing import Literal

from hocket_schemas.errors import ContractError, HocketError, MalformedEvent


class LogError(HocketError):
    """The log refused or could not answer."""


class Conflict(LogError):
    """Something expected of the log is not so; nothing of the append was stored.

    The server does not say which expectation failed. Read the records and decide anew.
    """


class OutcomeUnknown(LogError):
    """No answer came within the deadline: the append may be stored, may be stored later, or never.

    Never send it again blindly; recovery claims a new token first, which decides the old append's fate.
    """


class Unavailable(LogError):
    """The log cannot be reached or has no leader; nothing was stored. Try again when it is back."""


class StorageFull(LogError):
    """The log has no room; nothing was stored.

    Raise `max_bytes`, shorten a retention, or free the disk; then go on: nothing acknowledged is lost.
    """


class AppendTooLarge(LogError):
    """The append exceeds what the log takes (1000 messages, or the server's payload limit)."""


class PermissionDenied(LogError):
    """The credentials do not allow this subject."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"not allowed: {subject}")
        self.subject = subject


class ConsumerLost(LogError):
    """Deliveries stopped, came out of order or have a gap: read again from the cursor."""


class TopologyMismatch(LogError):
    """A stream exists with a configuration that breaks a promise, and cannot be changed in place.

    The message lists each difference. `hocket doctor` shows the same.
    """


class ServerTooOld(LogError):
    """The server lacks what the append protocol needs. Run nats-server 2.15.1 or newer."""


class Fenced(HocketError):
    """Another worker owns this agent and shard now; what this one had in hand is void."""


class UsageError(HocketError):
    """The program asks for something that cannot be; mend the program."""


class BadManifest(UsageError):
    """`agent.toml` cannot be read as a manifest; the message names the file and the key."""


class BadService(UsageError):
    """A folder cannot be loaded as a service: a file is missing, its code fails, or it holds no agent."""


class ManifestMismatch(UsageError):
    """The manifest and the code disagree.

    Either declare the event in `agent.toml` or remove the handler.
    """


class UndeclaredEvent(UsageError):
    """A handler emits an event that its agent does not declare.

    Name the type in the handler's return annotation or in `on(…, emits=[…])`, and in `agent.toml`.
    """


class ForeignShard(UsageError):
    """An emitted event must stay on the shard of its cause, for the commit to be atomic.

    Keep the cause's key, or choose keys that share its shard.
    """


class BadKey(UsageError):
    """A key that no subject can carry: empty, or longer than the limit once escaped."""


class ResultTooLarge(UsageError):
    """A step or an effect is to remember more than `Limits.result_bytes_max`.

    Keep it elsewhere, in a file or an object store, and return where it is; or do the work in several steps.
    """


class NotCleared(UsageError):
    """An effect that nothing can undo is to happen, and neither an approval nor a pivot came before it.

    Ask first (`await ctx.approve(…)`), in the same handler or in one that leads to it; or do it after a pivot.
    """

    def __init__(self, agent: str, effect: str) -> None:
        super().__init__(
            f"{effect} of {agent} cannot be undone, and neither an approval nor a pivot came before it; "
            "ask with ctx.approve first, or do it after a pivot"
        )
        self.effect = effect


class HandlingFailed(HocketError):
    """Why an event was dead-lettered."""


class AttemptsExhausted(HandlingFailed):
    """Every attempt that the retry policy allows has failed."""


class HandlerTimeout(HandlingFailed):
    """An attempt took longer than the handler's timeout."""


class HandlerCancelled(HandlingFailed):
    """An attempt ended with a cancellation that nobody had asked for: the handler awaited what somebody had cancelled.

    Catch `asyncio.CancelledError` where you await a task that may be cancelled.
    """


class ProcessEnded(HandlingFailed):
    """The process ended each time that it handled the event, until it was given up.

    It called for an exit, crashed in native code, was killed for its memory, or stood still until it was killed. What
    the service printed before tells more; `hocket agents` names the handler that has blocked.
    """


class LoopDetected(HandlingFailed):
    """Agents answer each other for ever, or one run makes the same call again and again.

    Of `hops`: the chain of causes is longer than `Limits.hops_max`. Of `repeats`: a step or an effect was to be called
    with the same arguments more often than `Limits.repeats_max`. If it polls and is meant to, declare that:
    `@agent.effect(polls=True)`, or `ctx.step_with(…, step_polls=True)`.
    """

    def __init__(
        self, limit: Literal["hops", "repeats"], most: int, count: int, *, what: str = "", digest: str = ""
    ) -> None:
        if limit == "hops":
            super().__init__(f"{count} hops, the limit is {most}")
        else:
            super().__init__(f"{what} was called {count} times with the same arguments ({digest}), the limit is {most}")
        self.limit: Literal["hops", "repeats"] = limit
        self.most = most
        self.count = count
        self.what = what
        """The step or effect."""

        self.digest = digest
        """Of its arguments."""


class FinalFailure(HandlingFailed):
    """Another attempt would come to the same: the event is a dead letter at once. Extensions may raise their own."""


class BudgetExceeded(FinalFailure):
    """A call would go beyond what its saga, or one that it was begun in, may use up; it was not made.

    The saga fails by that: catch this to clean up, not to go on. What is meant to cost more has a larger budget in its
    policy; a saga that runs keeps the one that it began with.
    """

    def __init__(
        self, message: str, *, limit: str, saga: str, most: float, count: float, spent: Mapping[str, float]
    ) -> None:
        super().__init__(message)
        self.limit = limit
        """`steps`, `tool_calls`, `tokens`, `cost` or `wall`."""

        self.saga = saga
        """Whose budget."""

        self.most = most
        self.count = count
        """What it would have come to."""

        self.spent = spent
        """What was reserved or spent so far, by agent."""


class ResultLost(FinalFailure):
    """What a step or an effect returned is not in the log any more, or not as it was stored.

    No further attempt can mend that. Somebody has published over it, or it has outlived `Limits.journal_kept`.
    """


class AccountLost(FinalFailure):
    """The record of what a saga has spent cannot be read: somebody has published over it.

    Nothing is spent on its behalf any more, since nobody knows what is left. No further attempt can mend that.
    """


class BadReturn(FinalFailure):
    """A handler returned something that is no event, no list of events and not None."""


class NothingRuns(HocketError):
    """There is no running system to talk to. Start one with `hocket up`, or name its server."""


class NotReady(HocketError):
    """A system did not come up in time; the message names who is missing."""


class StepTimeout(HocketError, TimeoutError):
    """A call of a step or an effect, of its `verify` or its `undo`, took longer than its timeout."""

    def __init__(self, step: str, timeout_s: float) -> None:
        super().__init__(f"{step} took longer than {timeout_s:g} s")
        self.step = step
        self.timeout_s = timeout_s


class StepFailed(HocketError):
    """A step of a run failed for good, now or before a crash; the journal remembers it.

    `error_type` and `message` are those of the failure that ended it.
    """

    def __init__(self, step: str, error_type: str, message: str) -> None:
        super().__init__(f"step {step!r} failed: {error_type}: {message}")
        self.step = step
        self.error_type = error_type
        self.message = message
        self.on_exhausted: str | None = None
        """What the effect that it was wants to follow if the handler does not catch this."""


class DecisionRefused(HocketError):
    """Somebody's decision on an approval would count for nothing; the message says why."""


class StreamTooLong(HocketError):
    """A handling streamed more live output than is kept; emit what is long as events, piece by piece."""


class NotCalled(HocketError):
    """An effect was not called, and nothing has happened outside; it may be called after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CircuitOpen(NotCalled):
    """What is called has failed too often, and its breaker lets nobody through for now.

    An effect with a retry policy waits by itself. Without one the handler gets this: let it pass, and the handling
    begins again after that time without an attempt being counted; or catch it, and do something else.
    """

    def __init__(self, breaker: str, retry_after_s: float) -> None:
        super().__init__(f"breaker {breaker!r} is open, for {retry_after_s:.1f} s", retry_after_s)
        self.breaker = breaker


class RateExceeded(NotCalled):
    """It would be called more often than it may be. Calls wait by themselves, but for those in cleanup."""

    def __init__(self, rate: str, retry_after_s: float) -> None:
        super().__init__(f"rate {rate!r} is used up, for {retry_after_s:.1f} s", retry_after_s)
        self.rate = rate


class CopyError(HocketError):
    """A copy of a domain cannot be taken, read or brought back. Nothing of the domain was changed."""


class BadCopy(CopyError):
    """A file is no copy of a domain, or a damaged or unfinished one. `hocket verify FILE` tells where."""


class CopyTooNew(CopyError):
    """A copy is of a format that this version does not know. Use the hocket that has written it, or a newer one."""


class DomainInUse(CopyError):
    """A domain is not empty, or agents are at work in it, so nothing is restored into it."""


class NeverQuiet(CopyError):
    """The log did not stand still for the moment that a copy takes. Pause an agent, or try at a quieter time."""


class FileUnwritable(CopyError):
    """A file cannot be written: there is no room, or no permission. What was begun is removed again."""


class WaitExpired(HocketError):
    """What a run waited for did not come in time; the journal remembers that, whatever comes later."""


class NotFound(HocketError):
    """The event, key or saga asked for is not in the log (or has aged out)."""


__all__ = [
    "AccountLost",
    "AppendTooLarge",
    "AttemptsExhausted",
    "BadKey",
    "BadManifest",
    "BadReturn",
    "BudgetExceeded",
    "BadService",
    "CircuitOpen",
    "Conflict",
    "ConsumerLost",
    "ContractError",
    "DecisionRefused",
    "Fenced",
    "FinalFailure",
    "ForeignShard",
    "HandlerCancelled",
    "HandlerTimeout",
    "HandlingFailed",
    "HocketError",
    "LogError",
    "LoopDetected",
    "MalformedEvent",
    "ManifestMismatch",
    "NotCalled",
    "NotCleared",
    "NotFound",
    "NotReady",
    "NothingRuns",
    "OutcomeUnknown",
    "PermissionDenied",
    "ProcessEnded",
    "RateExceeded",
    "ResultLost",
    "ResultTooLarge",
    "ServerTooOld",
    "StepFailed",
    "StepTimeout",
    "StorageFull",
    "StreamTooLong",
    "TopologyMismatch",
    "Unavailable",
    "UndeclaredEvent",
    "UsageError",
    "WaitExpired",
]
