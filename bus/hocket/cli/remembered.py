"""The commands about what agents remember: `memory recall`, `memory forget`, `memory forgotten` and `memory traces`."""

import getpass
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import AsJson, clock_time, harmless, print_json, print_table, say, short
from hocket.cli.reach import Domain, Nats, opened, reading, running_place
from hocket.host import runtime
from hocket.host.place import running_here
from hocket.memory.forgetting import Claim, Forgetting, claims, forget
from hocket.memory.projection import Memory
from hocket.memory.question import AsOf, Question, Recalled
from hocket.memory.traces import Trace, traces, traces_in
from hocket_schemas.moment import datetime_of, is_moment

commands = typer.Typer()
memory = typer.Typer(help="What agents remember: ask for it, overwrite it, and see what still holds it.")
commands.add_typer(memory, name="memory")

EXIT_LEFT = 1

About = Annotated[str, typer.Option(help="Only facts about this person or thing.")]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Look through these files too; otherwise the log's of `hocket up` here."),
]


@memory.command("recall", epilog="Example: hocket memory recall oats --about ada --as-of 2026-01-31T12:00:00Z")
def recall_command(
    words: Annotated[str, typer.Argument(metavar="[WORDS]", help="Any of them; without words all, newest first.")] = "",
    about: About = "",
    kind: Annotated[str, typer.Option(help="Only facts of this kind.")] = "",
    as_of: Annotated[
        str | None, typer.Option(metavar="T", help="A moment, RFC 3339, or a sequence (of each shard, with commas).")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="So many facts at most.")] = 20,
    file: Annotated[
        Path | None, typer.Option(help="Keep what was read of the log in this file, for the next question.")
    ] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Show what is remembered, by whoever and for whomever it is meant, or was at a moment."""
    question = Question(words, about, kind, None, most)
    found = runtime.run(_recall(question, _moment(as_of), file, nats, domain))
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "about", "kind", "author", "stored", "fact"),
        ((f.id, f.about, f.kind, f.author, clock_time(f.stored), _told(f)) for f in found),
        empty="nothing is remembered that answers that",
    )


@memory.command("forget", epilog="Example: hocket memory forget ada --reason 'she asked for it'")
def forget_command(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="As `--about` names it.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the event that says so.")] = "",
    by: Annotated[str | None, typer.Option(help="Who wants it; otherwise your login name.")] = None,
    data: Data = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Overwrite all that is remembered about a subject, for good, and name what still holds its words.

    The facts are replaced by their digests. Copies of them that agents have made stay: in states, journals, other
    events. Exit code 1: there are such copies. The server's files may hold overwritten bytes for longer.
    """
    done, left, files = runtime.run(
        _forget(subject, by or getpass.getuser(), reason, _folder(data, nats), nats, domain)
    )
    if as_json:
        erased = [each.model_dump() for each in done.erased]
        print_json({"erased": erased, "events": done.events, "left": left, "files": [str(path) for path in files]})
    else:
        print(f"overwritten: {len(done.erased)} events; said so: {', '.join(done.events) or 'before'}")
        _print_left(left, files)
    raise typer.Exit(EXIT_LEFT if left else 0)


@memory.command("forgotten", epilog="Example: hocket memory forgotten ada")
def forgotten_command(
    subject: Annotated[str | None, typer.Argument(metavar="[SUBJECT]", help="Otherwise all that was.")] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Show what was forgotten when and why, and whether the log bears it out: exit code 1 when it does not."""
    found = runtime.run(_forgotten(subject, nats, domain))
    if as_json:
        print_json([{"id": c.id, **c.event.model_dump(), "standing": c.standing} for c in found])
    else:
        print_table(
            ("id", "subject's digest", "events", "standing", "by", "reason"),
            (
                (c.id, c.event.subject[:16], len(c.event.erased), len(c.standing), c.event.by, c.event.reason)
                for c in found
            ),
            empty="nothing was forgotten" + (f" about {harmless(subject)}" if subject else ""),
        )
    raise typer.Exit(EXIT_LEFT if any(c.standing for c in found) else 0)


@memory.command("traces", epilog="Example: hocket memory traces 'likes oats' --data .hocket")
def traces_command(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What was forgotten, word for word.")],
    data: Data = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Name every message and every file that holds a text: exit code 1 when there is one."""
    left, files = runtime.run(_traces(texts, _folder(data, nats), nats, domain))
    if as_json:
        print_json({"left": left, "files": [str(path) for path in files]})
    else:
        _print_left(left, files)
    raise typer.Exit(EXIT_LEFT if left or files else 0)


async def _recall(
    question: Question, as_of: AsOf | None, file: Path | None, nats: str | None, domain: str | None
) -> list[Recalled]:
    async with reading(nats, domain) as bus:
        return await Memory(file).ask(bus, question, as_of=as_of)


async def _forget(
    subject: str, by: str, reason: str, folder: Path | None, nats: str | None, domain: str | None
) -> tuple[Forgetting, list[Trace], list[Path]]:
    async with opened(running_place(nats, domain)) as bus:
        done = await forget(bus, subject, by=by, reason=reason)
        left = await traces(bus, done.texts)
    return done, left, traces_in(folder, done.texts) if folder else []


async def _forgotten(subject: str | None, nats: str | None, domain: str | None) -> list[Claim]:
    async with reading(nats, domain) as bus:
        return await claims(bus, subject)


async def _traces(
    texts: Sequence[str], folder: Path | None, nats: str | None, domain: str | None
) -> tuple[list[Trace], list[Path]]:
    async with reading(nats, domain) as bus:
        left = await traces(bus, texts)
    return left, traces_in(folder, texts) if folder else []


def _print_left(left: Sequence[Trace], files: Sequence[Path]) -> None:
    print_table(
        ("shard", "seq", "what", "subject"),
        ((trace.shard, trace.seq, trace.kind, trace.subject) for trace in left),
        empty="no message of the log holds those words",
    )
    for path in files:
        say(f"the file {path} holds them, perhaps as bytes that nothing reads any more; see docs/guides/memory.md")


def _folder(data: Path | None, nats: str | None) -> Path | None:
    """Which files to look through: those that are named, else those of the system that runs here."""
    if data is not None or nats is not None:
        return data
    running = running_here()
    return Path(running.data) if running and running.data else None


def _told(fact: Recalled) -> str:
    doubts = "".join(f" (disputed: {reason})" for reason in fact.disputed)
    sure = "" if fact.confidence == 1 else f" ({fact.confidence:.0%} sure)"
    return short(fact.text + sure + doubts, 300)


def _moment(text: str | None) -> datetime | tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if all(part.isascii() and part.isdigit() for part in parts):
        return tuple(map(int, parts))
    if not is_moment(text):
        raise typer.BadParameter(f"{text!r} is neither a moment such as 2026-01-31T12:00:00Z nor a sequence")
    return datetime_of(text)
