"""What a demo says at its end: who did how much, what was proved, and where the brief is."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hocket.cli.output import print_json, print_table
from hocket.cli.telling import many, printable
from hocket.demo.brief import Problem, parse
from hocket.demo.corpus import folder_in
from hocket.host.place import DATA

DEMO_DATA = DATA / "demo"
"""Where the demo keeps its log and the documents that come along; other commands find it there."""

if TYPE_CHECKING:  # they bring the NATS client, which the other commands need not wait for
    from hocket.demo.play import Played, Published
    from hocket.demo.trial import Trial
    from hocket_schemas.briefs import BriefRequested


def print_work(played: "Played") -> None:
    """Who did how much, by the log."""
    print()
    print_table(
        ("agent", "handled", "emitted", "dead letters", "attempts at them", "busy"),
        (
            (work.agent, work.handled, work.emitted, work.letters, work.attempts, f"{work.busy_s:.2f} s")
            for work in played.account.works
        ),
        empty="nobody was at work",
    )


def print_trial(trial: "Trial") -> None:
    """Who was killed when, and what the log and the brief show of it."""
    print()
    print_table(
        ("killed", "when this appeared", "had work in hand"),
        ((b.strike.target, b.strike.moment, "yes" if b in trial.hits else "no") for b in trial.blows),
        empty="nobody was killed",
    )
    print()
    print_table(
        ("", "promise", "seen"),
        (("kept" if i.holds else "BROKEN", i.text, i.detail) for i in trial.invariants),
        empty="",
    )


def print_ending(played: "Played", request: "BriefRequested", home: Path) -> None:
    """Where the brief is, or why there is none, and how to look further."""
    from hocket.demo.play import Failed, Published, Stuck

    print()
    looks: list[str] = []
    match played.ending:
        case Published() as published:
            _print_brief(published)
            looks += [f"why {published.event_id}", _verify(published.path, Path(request.folder), home)]
        case Failed(event_id, reason):
            print(f"no brief: {printable(reason)}")
            looks.append(f"why {event_id}")
        case Stuck(reason, letter):
            print(f"no brief: {printable(reason)}")
            if letter is not None:
                looks.append(f"dead {letter.id}")
    looks.append(f"history {played.saga}")
    if home != DEMO_DATA:
        print(f"the log is in {home}, saga {played.saga}")
        return
    print()
    for before, look in zip(("try:", *repeat("    ", len(looks) - 1)), looks, strict=True):
        print(f"{before} hocket {look}")


def _verify(brief: Path, folder: Path, home: Path) -> str:
    """The command that holds the brief against its documents again."""
    documents = "" if folder == folder_in(home).resolve() else f" {shlex.quote(shown(folder))}"
    return f"demo{documents} --verify {shlex.quote(shown(brief))}"


def _print_brief(published: "Published") -> None:
    for problem in published.problems:
        print(f"DOES NOT HOLD: {printable(str(problem))}")
    what = f"{many(published.sentences, 'sentence')} from {many(published.documents, 'document')}"
    verdict = (
        f"{len(published.problems)} problems" if published.problems else "every citation was found in its document"
    )
    print(f"{shown(published.path)}: {what}, {verdict}")


def print_problems(brief: Path, folder: Path, problems: Sequence[Problem], *, as_json: bool) -> None:
    """What a check of a brief has found."""
    read = parse(brief.read_text(errors="replace")) if brief.is_file() else None
    quotes, told = (read.quotes, read.told) if read else ((), ())
    if as_json:
        counts = {"sentences": len(quotes), "in_words_of_a_model": len(told)}
        print_json({"brief": brief, "folder": folder, **counts, "problems": [str(p) for p in problems]})
        return
    for problem in problems:
        print(printable(str(problem)))
    verdict = f"{many(len(problems), 'problem')}" if problems else "each one stands where it says"
    what = f"{many(len(quotes), 'sentence')} held against {shown(folder.resolve())}, {verdict}"
    if told:
        what += f"; above {len(told)} of them stands what a model says, which nobody has checked here"
    print(f"{brief}: {what}")


def as_json(played: "Played", trial: "Trial | None") -> dict[str, Any]:
    """The same for programs."""
    from hocket.demo.play import Failed, Published, Stuck

    fields: dict[str, Any] = {"saga": played.saga, "took_s": round(played.took_s, 3), "brief": None}
    match played.ending:
        case Published() as published:
            fields |= {
                "brief": str(published.path),
                "event": published.event_id,
                "sentences": published.sentences,
                "documents": published.documents,
                "problems": [str(problem) for problem in published.problems],
            }
        case Failed(event_id, reason):
            fields |= {"event": event_id, "reason": reason}
        case Stuck(reason, letter):
            fields |= {"event": letter.id if letter else None, "reason": reason}
    fields["agents"] = [asdict(work) for work in played.account.works]
    if trial is not None:
        fields["chaos"] = {
            "passed": trial.passed,
            "strikes": [{**asdict(blow.strike), "hit": blow in trial.hits} for blow in trial.blows],
            "invariants": [asdict(invariant) for invariant in trial.invariants],
        }
    return fields


def shown(path: Path) -> str:
    """A path as somebody in this directory would write it."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


__all__ = ["DEMO_DATA", "as_json", "print_ending", "print_problems", "print_trial", "print_work", "shown"]
