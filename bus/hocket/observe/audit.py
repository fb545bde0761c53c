"""Whether the log bears out what is promised: no event handled twice, none lost, each with its cause.

Nothing is asked of the agents. What was emitted, under which cause and how far each cursor has come is in the
log, and the promises are arithmetic on it. Call it when the crew is quiet; while it works, what is under way
is reported as unfinished.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from hocket.client import Bus, Delivery
from hocket.clock import rfc3339
from hocket.engine.cursor import Mark
from hocket.engine.holds import WORDS, Holds, Standing
from hocket.engine.runs import Head
from hocket.errors import MalformedEvent, NotFound
from hocket.forgotten import in_its_place
from hocket.ids import cause_of
from hocket.log.base import Message
from hocket.observe.fact import Fact, fact_of
from hocket.observe.finding import Finding, Severity
from hocket.observe.letters import PEOPLE, DeadLetter, Fate, fate_in, fate_token, letter_of
from hocket.subjects import Names, address, tokens_of
from hocket_schemas.holds import HoldPlaced
from hocket_schemas.undoing import EffectDone

FINDINGS_MAX = 1000
"""An audit that found so much stops looking."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit looked at, and what it found."""

    events: int
    """Every event in the log, addressed ones included."""

    emitted: int
    """Of these, by agents."""

    handled: int
    """Pairs of an event and an agent that had to handle it, as far as their cursors say that it did."""

    letters: int
    open_letters: int
    """Of these, those that nobody has sent again or discarded."""

    agents: int
    """Agents that have ever owned a shard."""

    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Shard:
    """One shard's messages, sorted out."""

    facts: list[Fact] = field(default_factory=list)
    """In log order, without their data."""

    by_id: dict[str, list[Fact]] = field(default_factory=dict)
    positions: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Of each event an agent emitted, by sequence: the cause and the position that its subject names."""

    told: set[int] = field(default_factory=set)
    """Sequences of what agents said of their effects: it has the effect's key in the place of a cause."""

    marks: dict[str, Mark] = field(default_factory=dict)
    owners: set[str] = field(default_factory=set)
    letters: list[DeadLetter] = field(default_factory=list)
    fates: dict[str, Fate] = field(default_factory=dict)
    """What became of letters, by the token of each."""

    runs: list[tuple[str, str, Head]] = field(default_factory=list)
    """Agent, run and head of every open run."""

    journals: set[tuple[str, str]] = field(default_factory=set)
    """Agent and cause of each handling that remembers what it did, and may have waited in between."""

    words: list[Message] = field(default_factory=list)
    """What was said about holds."""

    findings: list[Finding] = field(default_factory=list)


async def audit(bus: Bus, consumes: Mapping[str, Collection[str]], *, ageing: bool = False) -> Report:
    """Hold a domain's log against the promises.

    `consumes` names the types that each agent handles, as its heartbeats or its manifest say. With `ageing`,
    when events of some types do not stay for ever, an event whose cause is gone is only a warning.
    """
    reports = []
    for shard, log in enumerate(bus.logs):
        names = Names(bus.domain, shard)
        async with aclosing(log.scan([names.everything])) as messages:
            kept = [m async for m in messages if not m.subject.startswith(names.all_blobs)]
        # A cursor that was written anew while we read has left its place, and stands after the end of what we read.
        known = {message.subject for message in kept}
        cursors = [names.cursor(agent) for agent in consumes]
        newer = [await log.last(cursor) for cursor in cursors if cursor not in known]
        kept += [message for message in newer if message is not None]
        reports.append(judge(sorted_out(kept, shard), consumes, ageing=ageing))
    return Report(
        events=sum(report.events for report in reports),
        emitted=sum(report.emitted for report in reports),
        handled=sum(report.handled for report in reports),
        letters=sum(report.letters for report in reports),
        open_letters=sum(report.open_letters for report in reports),
        agents=max((report.agents for report in reports), default=0),
        findings=tuple(finding for report in reports for finding in report.findings)[:FINDINGS_MAX],
    )


def sorted_out(messages: Iterable[Message], shard: int) -> _Shard:
    """One shard's messages by what they are."""
    found = _Shard()
    for message in messages:
        kind, *names = tokens_of(message.subject)
        try:
            match kind:
                case "evt" | "cmd":
                    _take_event(found, in_its_place(message), shard)
                case "own":
                    found.owners.add(names[0])
                case "cur":
                    found.marks[names[0]] = Mark.from_json(message.data)
                case "dead":
                    found.letters.append(letter_of(message, shard))
                case "run" if message.data:
                    found.runs.append((names[0], names[2], Head.from_json(message.data)))
                case "jrn":
                    found.journals.add((names[0], names[2]))
        except (MalformedEvent, NotFound, ValueError, LookupError, TypeError) as error:
            found.findings.append(_error("unreadable", message.subject, f"cannot be read: {error}"))
    found.facts.sort(key=lambda fact: fact.seq)  # what was forgotten is stored later than it was said
    return found


def _take_event(found: _Shard, message: Message, shard: int) -> None:
    where = address(message.subject)
    delivery = Delivery(message, shard, where)
    fact = fact_of(delivery, whole=False)
    found.facts.append(fact)
    found.by_id.setdefault(fact.id, []).append(fact)
    if fact.type in WORDS:
        found.words.append(message)
    if where.agent == PEOPLE and (said := fate_in(message)):
        found.fates.update([said])
    if fact.type == EffectDone.event_type and delivery.envelope.data["effect_key"] == where.cause:
        found.told.add(fact.seq)
    elif where.kind == "evt" and fact.id == where.id:
        found.positions[fact.seq] = (where.cause, where.i)


def judge(shard: _Shard, consumes: Mapping[str, Collection[str]], *, ageing: bool = False) -> Report:
    """What one shard's messages say about the promises."""
    handled, unfinished = _progress(shard, consumes)
    gone = Severity.WARNING if ageing else Severity.ERROR
    findings = [
        *shard.findings,
        *_doubled(shard),
        *_causes(shard, gone),
        *_order(shard),
        *_both(shard),
        *_redriven(shard, gone),
        *unfinished,
    ]
    return Report(
        events=len(shard.facts),
        emitted=len(shard.positions) + len(shard.told),
        handled=handled,
        letters=len(shard.letters),
        open_letters=sum(1 for letter in shard.letters if fate_token(letter) not in shard.fates),
        agents=len(shard.owners),
        findings=tuple(findings),
    )


def _doubled(shard: _Shard) -> list[Finding]:
    """One handling fills each of its positions once, from 0 on."""
    filled: dict[tuple[str, str], list[int]] = {}
    for fact in shard.facts:
        if fact.seq in shard.positions:
            cause, i = shard.positions[fact.seq]
            filled.setdefault((fact.publisher, cause), []).append(i)
    found = []
    for (agent, cause), positions in filled.items():
        twice = sorted({i for i in positions if positions.count(i) > 1})
        if twice:
            found.append(
                _error("doubled", f"{cause}.{twice[0]}", f"{agent} emitted it {positions.count(twice[0])} times")
            )
        missing = sorted(set(range(max(positions) + 1)) - set(positions))
        if missing:
            found.append(
                _error("gap", f"{cause}.{missing[0]}", f"{agent} emitted later ones of this handling, but not it")
            )
    return found


def _causes(shard: _Shard, severity: Severity) -> list[Finding]:
    """Every event with a cause has it in the log, before itself, and its subject follows from it.

    What was sent again may have only the letter as its cause, which outlives the event that died.
    """
    found = []
    died = {letter.id for letter in shard.letters}
    for fact in shard.facts:
        if fact.cause is None:
            continue
        causes = shard.by_id.get(fact.cause, [])
        emitted = shard.positions.get(fact.seq)
        if not causes and fact.cause in died and fact.seq not in shard.positions:
            continue
        if not causes:
            message = f"{fact.type} of {fact.publisher or fact.to} was caused by {fact.cause}, which is not in the log"
            found.append(Finding(severity, "no-cause", fact.id, message))
        elif all(cause.seq > fact.seq for cause in causes):
            found.append(_error("cause-after-effect", fact.id, f"its cause {fact.cause} stands after it in the log"))
        elif emitted and all(cause_of(fact.publisher, c.source, c.id) != emitted[0] for c in causes):
            found.append(_error("wrong-cause", fact.id, f"its subject does not follow from its cause {fact.cause}"))
    return found


def _order(shard: _Shard) -> list[Finding]:
    """An agent answers the events of one key in log order; while a run waits, others may go before it."""
    newest: dict[tuple[str, str], int] = {}
    found = []
    overtaken = {fact.saga for fact in shard.facts if fact.type == HoldPlaced.event_type}  # while in quarantine
    for fact in shard.facts:
        if fact.cause is None or fact.seq not in shard.positions:
            continue
        wanted = shard.positions[fact.seq][0]
        if (fact.publisher, wanted) in shard.journals:
            continue
        causes = [c for c in shard.by_id.get(fact.cause, []) if cause_of(fact.publisher, c.source, c.id) == wanted]
        if not causes:
            continue
        if causes[0].saga in overtaken:
            continue
        place = (fact.publisher, causes[0].key)
        if causes[0].seq < newest.get(place, 0):
            message = f"{fact.publisher} answered {fact.cause} of key {place[1]!r} after an event that came later"
            found.append(_error("out-of-order", fact.id, message))
        newest[place] = max(newest.get(place, 0), causes[0].seq)
    return found


def _both(shard: _Shard) -> list[Finding]:
    """An event is handled or in the dead letters, never both; only a run may have emitted before it failed."""
    answered = {(f.publisher, shard.positions[f.seq][0]) for f in shard.facts if f.seq in shard.positions}
    answered -= shard.journals
    by_seq = {fact.seq: fact for fact in shard.facts}
    found = []
    for letter in shard.letters:
        fact = by_seq.get(letter.event_seq)
        if fact and (letter.agent, cause_of(letter.agent, fact.source, fact.id)) in answered:
            message = f"{letter.agent} answered it, and wrote a dead letter about it"
            found.append(_error("handled-and-dead", fact.id, message))
    return found


def _redriven(shard: _Shard, severity: Severity) -> list[Finding]:
    """What is said to have been sent again is in the log, addressed to the agent that had failed."""
    found = []
    for letter in shard.letters:
        fate = shard.fates.get(fate_token(letter))
        if fate is None or fate.redriven_as is None:
            continue
        if not any(fact.to == letter.agent for fact in shard.by_id.get(fate.redriven_as, [])):
            message = f"{fate.by} sent it again to {letter.agent} as {fate.redriven_as}, which is not in the log"
            found.append(Finding(severity, "redriven-lost", letter.id, message))
    return found


def _progress(shard: _Shard, consumes: Mapping[str, Collection[str]]) -> tuple[int, list[Finding]]:
    """Every event is finished by the cursor of each agent that consumes it, and no run is at work."""
    handled = 0
    found = []
    for agent, types in sorted(consumes.items()):
        mark = shard.marks.get(agent)
        open_seqs = set(mark.open) if mark else set()
        for fact in shard.facts:
            if not (fact.to == agent or (fact.to is None and fact.type in types)):
                continue
            if mark is None:
                found.append(
                    _error("never-owned", fact.id, f"{agent} consumes {fact.type} and has never owned the shard")
                )
                break
            if fact.seq > mark.upto or fact.seq in open_seqs:
                found.append(_error("unfinished", fact.id, f"{fact.type} is not finished by {agent}"))
            else:
                handled += 1
    for agent, run, head in shard.runs:
        held = None if head.waiting else _held(shard, agent, head)
        if held is not None:
            message = f"{agent} keeps event {head.seq} waiting: held {held}"
            found.append(Finding(Severity.NOTE, "held-run", run, message))
        elif not head.waiting:
            found.append(_error("open-run", run, f"{agent} still works on event {head.seq}"))
        else:
            until = f" until {rfc3339(head.until_s)}" if head.until_s is not None else ""
            message = f"{agent} waits{until} to go on with event {head.seq}"
            found.append(Finding(Severity.NOTE, "waiting-run", run, message))
    return handled, found


def _held(shard: _Shard, agent: str, head: Head) -> Standing | None:
    """By what an event waits that has a run and does not wait by itself."""
    if not shard.words:
        return None
    holds = Holds(agent, heeds=True)
    for message in shard.words:
        with suppress(MalformedEvent):
            holds.hear(message)
    key = address(head.subject).key
    return holds.paused or holds.covering(key, head.saga or key)


def _error(code: str, where: str, message: str) -> Finding:
    return Finding(Severity.ERROR, code, where, message)


__all__ = ["Report", "audit", "judge", "sorted_out"]
