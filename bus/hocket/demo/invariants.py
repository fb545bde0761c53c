"""What a run under attack must keep to, each promise with whether it was kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hocket.demo.chaos import EVERYONE, SERVER, Blow, Strike
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
    yield Invariant("no agent gave an event up", report.letters == 0, f"{report.letters} dead letters")


def of_storm(
    calm: Played,
    stormy: Played,
    blows: Sequence[Blow],
    missed: Sequence[Strike],
    services: Mapping[str, str],
) -> list[Invariant]:
    """What a run under attack shows beside the calm one; a run in which nothing was hit proves nothing."""
    return [
        *of_saga(stormy),
        _same_events(calm, stormy),
        _same_bytes(calm, stormy),
        _all_struck(blows, services),
        _effective(stormy, blows, missed, services),
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


def _all_struck(blows: Sequence[Blow], services: Mapping[str, str]) -> Invariant:
    spared = sorted({*services.values(), EVERYONE, SERVER} - {blow.strike.target for blow in blows})
    detail = f"not struck: {', '.join(spared)}" if spared else f"{len(blows)} strikes"
    return Invariant("each service, all at once, and the server were killed", not spared, detail)


def _effective(
    stormy: Played, blows: Sequence[Blow], missed: Sequence[Strike], services: Mapping[str, str]
) -> Invariant:
    hits = sum(blow.hit(stormy.account, services) for blow in blows)
    detail = f"{hits} of {len(blows)} strikes" + (f", {len(missed)} more found no target" if missed else "")
    if not hits:
        detail = f"VACUOUS: {detail} hit anything, so this run proves nothing; try again, or with more documents"
    return Invariant("they had work in hand", hits > 0, detail)


def _from(text: str, findings: Sequence[Finding], detail: str) -> Invariant:
    wrong = "; ".join(f"{finding.where}: {finding.message}" for finding in findings[:5])
    return Invariant(text, not findings, wrong or detail)


__all__ = ["Invariant", "of_saga", "of_storm"]
