"""Commands about what could not be handled: `dead`, `redrive` and `discard`."""

import asyncio
import getpass
import re
from itertools import zip_longest
from typing import Annotated, Any

import orjson
import typer

from hocket.cli.known import declared_type
from hocket.cli.looking import FOLLOWED, print_letters
from hocket.cli.output import AsJson, clock_time, harmless, print_json, say, short
from hocket.cli.reach import Domain, Nats, opened, reading, running_place
from hocket.client import Bus
from hocket.errors import AppendTooLarge, HocketError, MalformedEvent, NotFound
from hocket.host import runtime
from hocket.observe.letters import DeadLetter, Fate, letters
from hocket.observe.settling import Settled, discard, redrive, redrive_all

commands = typer.Typer()

EXIT_SOME_STAYED = 1

PROGRESS_S = 1.0
"""How often to say how far it has come."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|m))?")

OfAgent = Annotated[str | None, typer.Option("--agent", help="Only letters of this agent.")]
By = Annotated[str | None, typer.Option(help="Who does this; otherwise your login name.")]


@commands.command("dead", epilog="Example: hocket dead")
def dead_command(
    event: Annotated[str | None, typer.Argument(metavar="ID", help="Show the letters about this event.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that were sent again or discarded.")] = False,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """List the open dead letters, or show those about one event with all that is known, whatever became of them."""
    runtime.run(_dead(event, every, nats, domain, as_json))


async def _dead(event: str | None, every: bool, nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        found = await _found(bus, event)
    shown = [letter for letter in found if every or event is not None or letter.status == "open"]
    if as_json:
        print_json([_fields(letter) for letter in shown])
    elif event is None:
        print_letters(shown)
        if len(shown) < len(found):
            say(f"{len(found) - len(shown)} more were sent again or discarded; `hocket dead --all` lists them too")
    else:
        for letter in shown:
            _print_letter(letter)


def _print_letter(letter: DeadLetter) -> None:
    lines = [
        f"{letter.agent} {letter.version} could not handle {letter.type or 'what it got'} {letter.id}",
        f"  {letter.reason}: {letter.error}",
        f"  after {letter.attempts} attempts, {clock_time(letter.stored)}; key {letter.key}, saga {letter.saga}",
    ]
    failed = zip_longest(letter.failed, letter.causes, fillvalue="")
    lines += [f"    before: {clock_time(at)} {cause}" for at, cause in failed]
    if letter.then in FOLLOWED:
        lines.append(f"  {FOLLOWED[letter.then] if letter.fate is None else f'its handler wanted {letter.then}'}")
    if letter.ancestor:
        lines.append(f"  it was sent again {_times(letter.generation)} before, the last time for {letter.ancestor}")
    if letter.fate:
        lines.append(f"  {_told(letter.fate)}")
    if letter.trace:
        lines += ["", letter.trace.rstrip()]
    if letter.event:
        lines += ["", letter.event]
    print(harmless("\n".join(lines)) + "\n")


@commands.command("redrive", epilog="Example: hocket redrive 5kx3q7mzw2ab4c6d.0")
def redrive_command(
    event: Annotated[
        str | None, typer.Argument(metavar="ID", help="The event's id, as `hocket dead` lists it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every open dead letter.")] = False,
    event_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="With --all: only events of this type.")
    ] = None,
    agent: OfAgent = None,
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="Change the data: a merge patch, where null takes a field away. Of what was no event: all its data.",
        ),
    ] = None,
    rate: Annotated[str | None, typer.Option(metavar="N/s", help="With --all: at most so many a second.")] = None,
    by: By = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the letter.")] = "",
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Send what could not be handled again, to the agent that could not handle it and to nobody else.

    A letter is sent once, however often this is called; when it dies again, there is a new letter. Edited data
    is checked against its type before anything is written. Exit code 1: some could not be sent, or something
    else became of them before.
    """
    if (event is None) == (not every):
        raise typer.BadParameter("give an event's id, or --all")
    if every and edit is not None:
        raise typer.BadParameter("--edit goes with one event's id")
    if event is not None and (event_type is not None or rate is not None):
        raise typer.BadParameter("--type and --rate go with --all")
    person, per_s, patch = by or getpass.getuser(), _per_s(rate), _parsed(edit)
    if event is not None:
        run = _redrive(event, agent, patch, person, reason, nats, domain, as_json)
    else:
        run = _redrive_all(event_type, agent, per_s, person, reason, nats, domain, as_json)
    raise typer.Exit(runtime.run(run))


async def _redrive(
    event: str,
    agent: str | None,
    edit: Any,
    by: str,
    reason: str,
    nats: str | None,
    domain: str | None,
    as_json: bool,
) -> int:
    outcomes: list[tuple[DeadLetter, Settled | HocketError]] = []
    async with opened(running_place(nats, domain)) as bus:
        for letter in await _found(bus, event, agent):
            declared_type(letter.type)  # so that what is edited can be checked
            try:
                outcomes.append((letter, await redrive(bus, letter, by=by, reason=reason, edit=edit)))
            except (NotFound, MalformedEvent, AppendTooLarge) as error:
                outcomes.append((letter, error))
    stayed = sum(_stayed(letter, outcome, edit, quiet=as_json) for letter, outcome in outcomes)
    if as_json:
        print_json([_sent(letter, outcome) for letter, outcome in outcomes if _is_sent(outcome)])
    return EXIT_SOME_STAYED if stayed else 0


async def _redrive_all(
    event_type: str | None,
    agent: str | None,
    per_s: float | None,
    by: str,
    reason: str,
    nats: str | None,
    domain: str | None,
    as_json: bool,
) -> int:
    loop = asyncio.get_running_loop()
    sent: list[dict[str, object]] = []
    stayed = 0
    async with opened(running_place(nats, domain)) as bus:
        chosen = [
            letter
            for letter in await _found(bus, None, agent)
            if letter.status == "open" and event_type in (None, letter.type)
        ]
        for kind in {letter.type for letter in chosen}:
            declared_type(kind)  # it says how long the new event is kept
        told_s = loop.time()
        async for letter, outcome in redrive_all(bus, chosen, by=by, reason=reason, per_s=per_s):
            stayed += _stayed(letter, outcome, None, quiet=as_json)
            if _is_sent(outcome):
                sent.append(_sent(letter, outcome))
            if loop.time() >= told_s + PROGRESS_S:
                told_s = loop.time()
                say(f"{len(sent) + stayed} of {len(chosen)}, {stayed} of them stay")
    if as_json:
        print_json(sent)
    elif not chosen:
        print("nothing to send")
    else:
        say(f"{len(sent)} of {len(chosen)} sent again")
    return EXIT_SOME_STAYED if stayed else 0


def _stayed(letter: DeadLetter, outcome: Settled | HocketError, edit: Any, *, quiet: bool) -> bool:
    """Say what came of a letter; return whether it is something else than was asked for."""
    if isinstance(outcome, HocketError):
        say(harmless(f"{letter.id} of {letter.agent} stays: {outcome}"))
        return True
    fate = outcome.fate
    if fate.status != "redriven" or fate.edit != edit:
        say(harmless(f"{letter.id} of {letter.agent} stays as it is: it {_told(fate)}"))
        return True
    if not quiet:
        known = "was sent before" if outcome.duplicate else "sent again"
        print(harmless(f"{letter.id} {known} to {letter.agent} as {fate.redriven_as}"))
    return False


def _is_sent(outcome: Settled | HocketError) -> bool:
    return isinstance(outcome, Settled) and outcome.fate.status == "redriven"


def _sent(letter: DeadLetter, outcome: Settled | HocketError) -> dict[str, object]:
    assert isinstance(outcome, Settled)
    return {
        "id": letter.id,
        "agent": letter.agent,
        "as": outcome.fate.redriven_as,
        "by": outcome.fate.by,
        "duplicate": outcome.duplicate,
    }


@commands.command("discard", epilog="Example: hocket discard 5kx3q7mzw2ab4c6d.0 --reason 'a test order'")
def discard_command(
    event: Annotated[str, typer.Argument(metavar="ID", help="The event's id, as `hocket dead` lists it.")],
    reason: Annotated[str, typer.Option(help="Why nothing more is to come of it; kept with the letter.")],
    agent: OfAgent = None,
    by: By = None,
    nats: Nats = None,
    domain: Domain = None,
) -> None:
    """Let nothing more come of a dead letter. It stays readable, and is open no longer.

    Exit code 1: it was sent again before.
    """
    if not reason.strip():
        raise typer.BadParameter("--reason is empty: whoever reads the letter wants to know why")
    raise typer.Exit(runtime.run(_discard(event, agent, by or getpass.getuser(), reason, nats, domain)))


async def _discard(event: str, agent: str | None, by: str, reason: str, nats: str | None, domain: str | None) -> int:
    stayed = False
    async with opened(running_place(nats, domain)) as bus:
        for letter in await _found(bus, event, agent):
            settled = await discard(bus, letter, by=by, reason=reason)
            if settled.fate.status != "discarded":
                stayed = True
                say(harmless(f"{letter.id} of {letter.agent} stays as it is: it {_told(settled.fate)}"))
            elif settled.duplicate:
                print(harmless(f"{letter.id} of {letter.agent} {_told(settled.fate)}"))
            else:
                print(harmless(f"{letter.id} of {letter.agent} is discarded"))
    return EXIT_SOME_STAYED if stayed else 0


async def _found(bus: Bus, event: str | None, agent: str | None = None) -> list[DeadLetter]:
    found = [letter async for letter in letters(bus, event_id=event) if agent in (None, letter.agent)]
    if event is not None and not found:
        raise NotFound(f"no dead letter{f' of {agent}' if agent else ''} is about event {event!r}")
    return found


def _told(fate: Fate) -> str:
    """What became of a letter, as the end of a sentence about it."""
    done = f"was sent again as {fate.redriven_as}" if fate.status == "redriven" else "was discarded"
    edited = f" with {short(fate.edit)}" if fate.edit is not None else ""
    why = f": {fate.reason}" if fate.reason else ""
    return f"{done}{edited} by {fate.by}, {clock_time(fate.at)}{why}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _per_s(rate: str | None) -> float | None:
    if rate is None:
        return None
    read = _RATE.fullmatch(rate.strip())
    if read is None or not float(read[1]):
        raise typer.BadParameter(f"--rate is {rate!r}, wants a number a second such as 5/s, or a minute such as 30/m")
    return float(read[1]) / (60 if read[2] == "m" else 1)


def _parsed(edit: str | None) -> Any:
    if edit is None:
        return None
    try:
        patch = orjson.loads(edit)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--edit is no JSON: {error}") from error
    if not isinstance(patch, dict):
        raise typer.BadParameter("--edit wants a JSON object such as '{\"cents\": 100}'")
    return patch


def _fields(letter: DeadLetter) -> dict[str, object]:
    fields: dict[str, object] = {name: getattr(letter, name) for name in letter.__slots__}
    return {**fields, "redriven": letter.fate.redriven_as if letter.fate else None}
