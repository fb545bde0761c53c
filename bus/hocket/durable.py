"""What a run does durably: steps, effects and waits, each answered from the journal when it was done before."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from hocket import run as journal
from hocket import spending
from hocket.account import Spends
from hocket.blob import Left
from hocket.calls import as_json, call, digest_of, typed, within
from hocket.clock import rfc3339
from hocket.effect import Effect, NotDone, key_of
from hocket.errors import MalformedEvent, NotCalled, NotCleared, StepFailed, UsageError, WaitExpired
from hocket.execution import Suspend
from hocket.failures import NONE, Failures, told, with_one_more
from hocket.guarding import guarded, in_time
from hocket.policy import Retry
from hocket.process import Process
from hocket.redaction import as_stored, text_as_stored
from hocket.run import BEGUN, DONE, PARKED, VOID, Entry, Run
from hocket_schemas import gate
from hocket_schemas.approvals import EffectResolved
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event
from hocket_schemas.undoing import EffectDone

UNKNOWN_OUTCOME = "it is not known whether effect {name} happened; verify by hand and resolve key {key}"


async def step(
    run: Run,
    process: Process,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    keywords: dict[str, Any],
    *,
    name: str,
    retry: Retry | None,
    polls: bool = False,
    timeout_s: float | None = None,
    spends: Spends | None = None,
    spent: Callable[[Any], Spends] | None = None,
    leaves: Callable[[], Left | None] | None = None,
) -> Any:
    """Answer from the journal, or call and remember. Raises LoopDetected when it is asked for too often.

    What the saga has no budget for is not called: BudgetExceeded. What `spent` tells of the result takes the place of
    what was reserved for it. `leaves` is asked after the call what is to be remembered beside its result.

    Without a policy a failure is raised as it is and not remembered; with one, the last failure is final.
    """
    digest = digest_of(arguments, keywords)
    if not polls:
        run.repeat(name, digest)
    occurrence, known = await run.recall(name, digest)
    if known is None:
        await spending.reserve(run, process, name, occurrence, spending.STEP, spends)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        result, error, failed = await _tried(
            process, lambda: within(timeout_s, name, call(function, arguments, keywords)), retry
        )
        known = Entry(
            name,
            occurrence,
            journal.STEP,
            rfc3339(process.clock.now_s()),
            digest=digest,
            took_s=loop.time() - began_s,
            result=result,
            error=error,
            failures=failed,
            record=leaves() if leaves is not None and error is None else None,
        )
        await run.remember(known)
    if known.error is not None:
        raise _failure_of(known)
    returned = typed(function, await run.result_of(known))
    if spent is not None:
        await spending.settle(run, process, name, occurrence, spent, returned)
    return returned


async def _tried(
    process: Process, calling: Callable[[], Awaitable[bytes]], retry: Retry | None
) -> tuple[bytes | None, tuple[str, str] | None, Failures]:
    """Call as often as the policy has it: the result, or the failure that is final; and the failures before.

    Without a policy a failure is raised.
    """
    began_s, attempts, failed = asyncio.get_running_loop().time(), 0, NONE
    while True:
        attempts += 1
        try:
            return as_stored(await calling()), None, failed
        except Exception as failure:
            if retry is None:
                raise
            spent_s = asyncio.get_running_loop().time() - began_s
            wait_s = retry.wait_s(attempts, failure, process.rng, spent_s=spent_s)
            if wait_s is None:
                return None, (type(failure).__name__, text_as_stored(str(failure))), failed
            failed = with_one_more(failed, rfc3339(process.clock.now_s()), text_as_stored(told(failure)))
            await asyncio.sleep(wait_s)


async def effect(
    run: Run,
    process: Process,
    declared: Effect[Any, Any],
    arguments: Sequence[Any],
    keywords: dict[str, Any],
    *,
    agent: str,
    saga: str,
) -> Any:
    """Do an effect once: intent first, then the call, then the outcome, each in the log before the next.

    Raises LoopDetected when it is asked for too often, BudgetExceeded when its saga has no budget for it.
    """
    digest = digest_of(arguments, keywords)
    if not declared.polls:
        run.repeat(declared.name, digest)
    occurrence, known = await run.recall(declared.name, digest)
    if known is None:
        given = as_json([arguments, keywords])
        known = Entry(
            declared.name,
            occurrence,
            journal.EFFECT,
            rfc3339(process.clock.now_s()),
            phase=VOID,
            digest=digest,
            key=key_of(saga, agent, declared.name, orjson.loads(given)),
            saga=saga,
            arguments=as_stored(given),
        )
    if known.phase != DONE:
        if declared.irreversible and run.cleared is None:
            raise NotCleared(agent, declared.name)
        await spending.reserve(run, process, declared.name, occurrence, spending.EFFECT, declared.spends)
        known = await _do(run, process, declared, arguments, keywords, known)
        await run.remember(known, _told(agent, declared, known))
        process.reach("after outcome")
        await run.halt()
    if known.waited:
        run.passed(known)
    if known.error is not None:
        failed = _failure_of(known)
        failed.on_exhausted = declared.on_exhausted
        raise failed
    run.clear(known.key if declared.final else None)
    result = typed(declared.function, await run.result_of(known))
    if declared.spent_function is not None:
        await spending.settle(run, process, declared.name, occurrence, declared.spent_function, result)
    return result


def _told(agent: str, declared: Effect[Any, Any], outcome: Entry) -> EffectDone | None:
    """What the saga has to know of an outcome: nothing, unless it can be undone or changes what may be.

    Arguments and result are added to it as the journal has them.
    """
    if outcome.error is not None or not declared.told:
        return None
    return EffectDone(
        effect=declared.name,
        effect_key=outcome.key,
        agent=agent,
        arguments=None,
        undoable=declared.undo_function is not None,
        pivot=declared.final,
    )


async def _do(
    run: Run,
    process: Process,
    declared: Effect[Any, Any],
    arguments: Sequence[Any],
    keywords: dict[str, Any],
    known: Entry,
) -> Entry:
    """Call until the outcome is known; never again while it is unknown whether the call before took effect."""
    loop = asyncio.get_running_loop()
    began_s, attempts, unknown, failed = loop.time(), 0, known.phase != VOID, NONE
    called = keywords | ({"key": known.key} if declared.takes_key else {})

    def outcome(result: bytes | None = None, failure: Exception | None = None) -> Entry:
        at, took_s = rfc3339(process.clock.now_s()), loop.time() - began_s
        error = (type(failure).__name__, text_as_stored(str(failure))) if failure else None
        return replace(known, at=at, phase=DONE, took_s=took_s, result=result, error=error, failures=failed)

    while True:
        if unknown:
            happened, result, known = await _find_out(run, process, declared, arguments, called, known)
            if happened:
                return outcome(result)
        try:
            # Let through first: an intent says that it may have been called.
            async with guarded(run, process, declared, patient=declared.retry is not None) as permit:
                known = await _intend(run, process, known)
                in_time(permit, process)
                attempts += 1
                with run.away():
                    result = await within(declared.timeout_s, declared.name, call(declared.function, arguments, called))
        except (NotCalled, Suspend):
            if known.phase == BEGUN and not unknown:
                await run.remember(replace(known, phase=VOID))  # or nobody would know whether the last call happened
            raise
        except Exception as failure:
            if attempts == 0:
                raise  # it was not come to
            policy = declared.retry
            unknown = not isinstance(failure, NotDone)
            if run.interrupt is not None and not (policy and isinstance(failure, policy.never)):
                if not unknown:
                    run.note(replace(known, phase=VOID))
                await run.halt()
            if policy is None:
                if not unknown:
                    await run.remember(replace(known, phase=VOID))
                raise
            wait_s = policy.wait_s(attempts, failure, process.rng, spent_s=loop.time() - began_s)
            if wait_s is None and unknown and not isinstance(failure, policy.never):
                # The last attempt may have happened. Only once that is known to be false the failure is final.
                happened, result, known = await _find_out(run, process, declared, arguments, called, known, last=True)
                return outcome(result) if happened else outcome(failure=failure)
            if wait_s is None:
                return outcome(failure=failure)
            failed = with_one_more(failed, rfc3339(process.clock.now_s()), text_as_stored(told(failure)))
            await asyncio.sleep(wait_s)
        else:
            process.reach("after call")
            return outcome(as_stored(result))


async def _intend(run: Run, process: Process, known: Entry) -> Entry:
    """Have the intent in the log, if it is not there yet."""
    if known.phase == BEGUN:
        return known
    process.reach("before intent")
    known = replace(known, phase=BEGUN)
    try:
        known = await run.remember(known)
    except asyncio.CancelledError:
        run.note(replace(known, phase=VOID))  # it may be in the log, and nobody has acted upon it
        raise
    process.reach("after intent")
    return known


async def _find_out(
    run: Run,
    process: Process,
    declared: Effect[Any, Any],
    arguments: Sequence[Any],
    keywords: dict[str, Any],
    known: Entry,
    *,
    last: bool = False,
) -> tuple[bool, bytes | None, Entry]:
    """Whether a call that nobody saw the end of has happened, its outcome as JSON, and what is known from now on.

    Not happened: it may be made, or made again with the same key, unless it was the `last` attempt. Suspends the
    run when only a person can tell.
    """
    if declared.verify_function is not None:
        async with guarded(run, process, declared, patient=declared.retry is not None):
            verifying = call(declared.verify_function, arguments, keywords)
            found = await within(declared.timeout_s, f"verify {declared.name}", verifying)
        return found != b"null", as_stored(found), known
    if known.phase == PARKED:
        assert run.entries is not None, "what is parked was recalled"
        heeded = max(entry.heeded for entry in run.entries.values() if entry.key == known.key)
        for seq, envelope in await run.memory.answers([EffectResolved.event_type]):
            resolved = read_answer(envelope, EffectResolved)
            if isinstance(resolved, EffectResolved) and resolved.effect == known.key and seq > heeded:
                known = replace(known, phase=VOID, heeded=seq, waited=True)
                return resolved.happened, as_json(resolved.result), known
    elif declared.idempotent and not last:
        return False, None, known
    replayed = known.phase == PARKED
    if not replayed:
        run.begin(replace(known, phase=PARKED))
    reason = UNKNOWN_OUTCOME.format(name=declared.name, key=known.key)
    raise Suspend(replayed=replayed, waits=(EffectResolved.event_type,), parked=reason)


async def sleep(run: Run, process: Process, delay_s: float) -> None:
    """Suspend the run until some time from the first execution has passed."""
    occurrence, known = await run.recall(journal.SLEEP)
    now_s = process.clock.now_s()
    replayed = known is not None
    if known is None:
        if delay_s <= 0:
            return
        until_s = process.clock.after(delay_s)
        known = Entry(journal.SLEEP, occurrence, journal.SLEEP, rfc3339(now_s), until_s=until_s, waited=True)
        run.begin(known)
    assert known.until_s is not None
    if known.until_s > now_s:
        raise Suspend(known.until_s, replayed=replayed)
    run.passed(known)


async def wait(
    run: Run,
    process: Process,
    types: Sequence[type[Event]],
    *,
    where: Callable[[Any], bool] | None,
    delay_s: float | None,
    caused_by: str | None = None,
) -> Event:
    """The first answer since the run's own event that no earlier wait took; to one question, if that is named.

    Raises WaitExpired when none came in time.
    """
    of_type = by_name(types)
    names = tuple(sorted(of_type))
    name = f"wait {' | '.join(names)}"
    occurrence, known = await run.recall(name)
    now_s = process.clock.now_s()
    if known is not None and known.error is not None:
        run.passed(known)
        raise WaitExpired(known.error[1])
    if known is not None and known.phase == DONE:
        run.take(known.result["seq"])
        run.clear(known.result.get("cleared"))
        if known.waited:
            run.passed(known)
        return remembered_answer(name, known.result, of_type)
    until_s = known.until_s if known else None if delay_s is None else process.clock.after(delay_s)
    for seq, envelope in await run.memory.answers(names):
        if caused_by not in (None, envelope.causationid):
            continue
        event = read_answer(envelope, of_type[envelope.type])
        if event is None or (where is not None and not where(event)) or not run.take(seq):
            continue
        waited = known is not None
        known = known or Entry(name, occurrence, journal.WAIT, "")
        # The answer itself, since the log may keep the event for a shorter time than the run goes on.
        answer = answer_of(seq, envelope)
        run.clear(envelope.hkcleared)
        known = replace(known, at=rfc3339(now_s), phase=DONE, result=answer, waited=waited)
        run.note(known)
        if waited:
            run.passed(known)
        return event
    if known is not None and until_s is not None and until_s <= now_s:
        message = f"none of {', '.join(names)} came until {rfc3339(until_s)}"
        known = replace(known, at=rfc3339(now_s), phase=DONE, waited=True, error=("WaitExpired", message))
        run.note(known)
        run.passed(known)
        raise WaitExpired(message)
    replayed = known is not None
    if not replayed:
        run.begin(Entry(name, occurrence, journal.WAIT, rfc3339(now_s), phase=BEGUN, until_s=until_s))
    raise Suspend(until_s, replayed=replayed, waits=names)


def by_name(types: Sequence[type[Event]]) -> dict[str, type[Event]]:
    """What is waited for. Raises UsageError when that is nothing, since it would never come."""
    if not types:
        raise UsageError("a wait for no type of event would never end")
    return {event.event_type: event for event in types}


def answer_of(seq: int, envelope: Envelope) -> dict[str, Any]:
    """What the journal keeps of an answer."""
    answer: dict[str, Any] = {"seq": seq, "type": envelope.type, "data": envelope.data}
    return answer | {"cleared": envelope.hkcleared} if envelope.hkcleared else answer


def remembered_answer(name: str, answer: Mapping[str, Any], of_type: Mapping[str, type[Event]]) -> Event:
    """The answer that a wait took, typed. Raises UsageError when it no longer fits, after a change of the code."""
    event_type = of_type[answer["type"]]
    event = read_answer(Envelope(id="", source="", type=answer["type"], data=answer["data"]), event_type)
    if event is None:
        raise UsageError(f"the remembered answer of {name!r} does not fit its type any more")
    return event


def read_answer(envelope: Envelope, event: type[Event]) -> Event | None:
    """A typed answer; what does not fit its type is none (and was dead-lettered when it came)."""
    try:
        return gate.event_of(envelope, event)
    except MalformedEvent:
        return None


def _failure_of(entry: Entry) -> StepFailed:
    """The remembered failure of a step."""
    assert entry.error is not None
    return StepFailed(entry.name, *entry.error)
