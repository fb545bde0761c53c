"""Several answers as one wait: all of them, as many as it takes, or the first of different ones."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import orjson

from hocket import run as journal
from hocket.blob import INLINE_BYTES_MAX
from hocket.calls import as_json
from hocket.clock import rfc3339
from hocket.durable import answer_of, by_name, read_answer, remembered_answer
from hocket.errors import UsageError, WaitExpired
from hocket.execution import Suspend
from hocket.process import Process
from hocket.run import BEGUN, DONE, Entry, Run
from hocket_schemas.event import Event

E = TypeVar("E", bound=Event, covariant=True)


@dataclass(frozen=True, slots=True)
class Awaited(Generic[E]):
    """One of the things that `ctx.first` waits for: an event type, and which events of it."""

    event: type[E]
    where: Callable[[E], bool] | None = None
    """None: any."""

    def fits(self, event: Event) -> bool:
        """Whether an event is what is waited for."""
        return isinstance(event, self.event) and (self.where is None or self.where(event))


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many answers, and which of them count."""

    count: int
    """With so many it is over."""

    quorum: int
    """So many are enough once the time is up."""

    where: Callable[[Any], bool] | None = None
    distinct: Callable[[Any], Hashable] | None = None
    """Of the answers for which it gives the same only the first counts."""

    def __post_init__(self) -> None:
        if not 1 <= self.quorum <= self.count:
            raise UsageError(f"a quorum of {self.quorum} out of {self.count}: wants at least 1, and no more than all")


async def collect(
    run: Run, process: Process, types: Sequence[type[Event]], wanted: Wanted, *, delay_s: float | None
) -> list[Event]:
    """The answers since the run's own event that count, in log order; taken together, once they are enough.

    Raises WaitExpired when fewer than the quorum came in time: then none of them is taken.
    """
    of_type = by_name(types)
    names = tuple(sorted(of_type))
    name = f"collect {' | '.join(names)}"
    occurrence, known = await run.recall(name)
    if known is not None and known.error is not None:
        run.passed(known)
        raise WaitExpired(known.error[1])
    if known is not None and known.phase == DONE:
        result = await run.result_of(known)
        answers = orjson.loads(result) if isinstance(result, bytes) else result
        for answer in answers:
            run.take(answer["seq"])
            run.clear(answer.get("cleared"))
        if known.waited:
            run.passed(known)
        return [remembered_answer(name, answer, of_type) for answer in answers]
    now_s = process.clock.now_s()
    until_s = known.until_s if known else None if delay_s is None else process.clock.after(delay_s)
    over = known is not None and until_s is not None and until_s <= now_s
    found = await _counting(run, of_type, wanted)
    if len(found) < wanted.count and not over:
        if known is None:
            run.begin(Entry(name, occurrence, journal.WAIT, rfc3339(now_s), phase=BEGUN, until_s=until_s))
        raise Suspend(until_s, replayed=known is not None, waits=names)
    waited = known is not None
    known = known or Entry(name, occurrence, journal.WAIT, "")
    known = replace(known, at=rfc3339(now_s), phase=DONE, waited=waited)
    if len(found) < (wanted.quorum if over else wanted.count):
        assert until_s is not None, "without a time it is never over"
        came = f"{len(found)} of {wanted.count} {', '.join(names)} came until {rfc3339(until_s)}"
        message = f"{came}, wants at least {wanted.quorum}"
        run.note(replace(known, error=("WaitExpired", message)))
        run.passed(known)
        raise WaitExpired(message)
    answers = [answer for answer, _ in found]
    for answer in answers:
        run.take(answer["seq"])
        run.clear(answer.get("cleared"))
    known = replace(known, result=as_json(answers))
    if len(known.result) > INLINE_BYTES_MAX:
        await run.remember(known)
    else:
        run.note(known)
    if waited:
        run.passed(known)
    return [event for _, event in found]


async def _counting(run: Run, of_type: dict[str, type[Event]], wanted: Wanted) -> list[tuple[dict[str, Any], Event]]:
    """The answers that count, no more than are wanted: as the journal keeps them, and typed."""
    found: list[tuple[dict[str, Any], Event]] = []
    seen: set[Hashable] = set()
    for seq, envelope in await run.memory.answers(sorted(of_type)):
        event = read_answer(envelope, of_type[envelope.type])
        if event is None or run.is_taken(seq) or (wanted.where is not None and not wanted.where(event)):
            continue
        if wanted.distinct is not None:
            same = wanted.distinct(event)
            if same in seen:
                continue
            seen.add(same)
        found.append((answer_of(seq, envelope), event))
        if len(found) == wanted.count:
            break
    return found
