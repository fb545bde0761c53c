"""What a run under attack must keep to, each promise with whether it was kept."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hocket.demo.chaos import Blow, Storm
from hocket.demo.play import Played, Published
from hocket.observe.finding import Finding, Severity

_PROMISES: Mapping[str, frozenset[str]] = {
    "nothing was handled twice": frozenset({"doubled", "gap", "handled-and-dead"}),
    "nothing was lost": frozenset({"unfinished", "never-owned", "open-run"}),
    "every event has its cause, and stands after it": frozenset({"no-cause", "cause-after-effect", "wrong-cause"}),
    "every agent answered in the log's order": frozenset({"out-of-order"}),
}
"""What an audit finds when one of them is broken."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """One promise, and what became of it."""

    text: str
    holds: bool
    detail: str
    """What it was judged by or, of a broken one, what is wrong."""


def of_saga(played: Played) -> Iterator[Invariant]:
    """What one saga alone can show."""
    report = played.account.report
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    counted = f"{report.events} events, {report.emitted} of them emitted by agents; {report.handled} handled"
    for text, codes in _PROMISES.items():
        yield _from(text, [finding for finding in errors if finding.code in codes], counted)
    known = frozenset().union(*_PROMISES.values())
    yield _from("the audit found nothing else", [f for f in errors if f.code not in known], "")
    unknown, done = played.account.unknown, played.account.done
    yield Invariant(
        "of every effect it is known whether it happened", not unknown, ", ".join(unknown) or f"{done} done"
    )
    yield Invariant("no agent gave an event up", report.letters == 0, f"{report.letters} dead letters")


def of_storm(calm: Played, stormy: Played, storm: Storm, hits: Collection[Blow]) -> list[Invariant]:
    """What a run under attack shows beside the calm one; a run in which nothing was hit proves nothing."""
    return [
        *of_saga(stormy),
        _same_events(calm, stormy),
        _same_bytes(calm, stormy),
        _all_struck(storm),
        _effective(storm, hits),
    ]


def _same_events(calm: Played, stormy: Played) -> Invariant:
    before, after = calm.account.said, stormy.account.said
    different = [
        f"{publisher} {kind}: {before.get((publisher, kind), 0)}, then {after.get((publisher, kind), 0)}"
        for publisher, kind in sorted({*before, *after})
        if before.get((publisher, kind), 0) != after.get((publisher, kind), 0)
    ]
    detail = "; ".join(different) or f"{sum(after.values())} events of {len(after)} kinds"
    return Invariant("the same events as in the calm run", not different, detail)


def _same_bytes(calm: Played, stormy: Played) -> Invariant:
    text = "the brief is the same to the last byte, and every citation holds"
    if not isinstance(calm.ending, Published) or not isinstance(stormy.ending, Published):
        return Invariant(text, False, "there is no brief to compare")
    problems = [str(problem) for problem in stormy.ending.problems]
    if calm.ending.data != stormy.ending.data:
        problems.insert(0, f"{len(calm.ending.data)} bytes before, {len(stormy.ending.data)} now, not the same")
    detail = "; ".join(problems) or f"{len(stormy.ending.data)} bytes, {stormy.ending.sentences} sentences"
    return Invariant(text, not problems, detail)


def _all_struck(storm: Storm) -> Invariant:
    wanted = {strike.target for strike in storm.strikes}
    # Who died with all the others was killed too, even if its own turn came too late.
    spared = sorted(wanted - {blow.strike.target for blow in storm.blows}.union(*(b.killed for b in storm.blows)))
    return Invariant("everybody was killed who was meant", not spared, ", ".join(spared or sorted(wanted)))


def _effective(storm: Storm, hits: Collection[Blow]) -> Invariant:
    detail = f"{len(hits)} of {len(storm.blows)} strikes"
    if storm.missed:
        detail += f"; {len(storm.missed)} more came too late"
    if not hits:
        detail = f"VACUOUS: {detail}, so this run proves nothing; try another --seed, or more documents"
    return Invariant("those who were killed had work in hand", bool(hits), detail)


def _from(text: str, findings: Sequence[Finding], detail: str) -> Invariant:
    wrong = "; ".join(f"{finding.where}: {finding.message}" for finding in findings[:5])
    return Invariant(text, not findings, wrong or detail)


__all__ = ["Invariant", "of_saga", "of_storm"]
