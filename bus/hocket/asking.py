"""Asking people in the middle of a run: once, of more of them when nobody answers, and never for ever if told so."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from hocket import run as journal
from hocket.approval import EXPIRED, SAID, Decision, judge
from hocket.clock import rfc3339
from hocket.durable import read_answer
from hocket.execution import Suspend
from hocket.process import Process
from hocket.run import BEGUN, DONE, Entry, Run
from hocket_schemas.approvals import ApprovalDecided, ApprovalEscalated, ApprovalRequested
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event
from hocket_schemas.moment import seconds_of

_TYPES = {event.event_type: event for event in (ApprovalDecided, ApprovalEscalated)}


async def approve(
    run: Run,
    process: Process,
    request: ApprovalRequested,
    *,
    delay_s: float | None,
    escalate_after_s: float | None,
    ask: Callable[[Event], None],
) -> Decision:
    """Ask people, and wait until enough of them have decided, or it is too late. Always suspends the run."""
    name = f"approval {request.question}"
    occurrence, known = await run.recall(name, request.digest)
    now_s = process.clock.now_s()
    if known is None:
        until_s = None if delay_s is None else process.clock.after(delay_s)
        asked = request.model_copy(
            update={
                "approval": f"{request.approval}.{occurrence}",
                "expires": None if until_s is None else rfc3339(until_s),
                "escalates": None if escalate_after_s is None else rfc3339(process.clock.after(escalate_after_s)),
            }
        )
        ask(asked)
        known = Entry(
            name,
            occurrence,
            journal.APPROVAL,
            rfc3339(now_s),
            phase=BEGUN,
            digest=request.digest,
            until_s=until_s,
            key=asked.approval,
            arguments=asked.model_dump(mode="json"),
        )
        run.begin(known)
        raise _suspend(known, asked, replayed=False)
    if known.phase == DONE:
        run.passed(known)
        return Decision(**{**known.result, "by": tuple(known.result["by"])})
    asked = ApprovalRequested.model_validate(known.arguments)
    answers = await run.memory.answers(SAID if asked.escalate_to else SAID[:1])
    decision, _ = judge(asked, said_on(asked.approval, answers))
    if decision is None and known.until_s is not None and known.until_s <= now_s:
        decision = Decision(EXPIRED, details=asked.details)
    if decision is not None:
        known = replace(known, at=rfc3339(now_s), phase=DONE, result=asdict(decision), waited=True)
        run.note(known)
        run.passed(known)
        return decision
    if asked.escalates is None or seconds_of(asked.escalates) > now_s:
        raise _suspend(known, asked, replayed=True)
    # The same wait begins once more, in one append with the event that tells of it: what the execution has done so far
    # was committed with the first.
    run.passed(known)
    ask(_escalated(asked))
    asked = asked.model_copy(update={"escalates": None})
    known = replace(known, at=rfc3339(now_s), arguments=asked.model_dump(mode="json"))
    run.begin(known)
    raise _suspend(known, asked, replayed=False)


def said_on(approval: str, answers: Sequence[tuple[int, Envelope]]) -> list[ApprovalDecided | ApprovalEscalated]:
    """Those of some answers that are about an approval, in log order."""
    found: list[ApprovalDecided | ApprovalEscalated] = []
    for _, envelope in answers:
        said = read_answer(envelope, _TYPES.get(envelope.type, ApprovalDecided))
        if isinstance(said, ApprovalDecided | ApprovalEscalated) and said.approval == approval:
            found.append(said)
    return found


def _suspend(known: Entry, asked: ApprovalRequested, *, replayed: bool) -> Suspend:
    times = [known.until_s, None if asked.escalates is None else seconds_of(asked.escalates)]
    until_s = min((time_s for time_s in times if time_s is not None), default=None)
    return Suspend(until_s, replayed=replayed, waits=SAID[:1], approval=known.arguments)


def _escalated(asked: ApprovalRequested) -> ApprovalEscalated:
    shown = asked.model_dump(exclude={"approvers", "escalates", "escalate_to"})
    return ApprovalEscalated(**shown, approvers=[*asked.approvers, *asked.escalate_to])
