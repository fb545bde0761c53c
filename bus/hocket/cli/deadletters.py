"""Commands about what could not be handled: `dead` and `redrive`."""

from typing import Annotated

import typer

from hocket.cli.looking import print_letters
from hocket.cli.output import AsJson, clock_time, harmless, print_json, say
from hocket.cli.reach import Domain, Nats, opened, reading, running_place
from hocket.client import Bus
from hocket.errors import MalformedEvent, NotFound
from hocket.host import runtime
from hocket.observe.letters import DeadLetter, letters, redrive, redriven_id

commands = typer.Typer()

EXIT_SOME_STAYED = 1


@commands.command("dead", epilog="Example: hocket dead")
def dead_command(
    event: Annotated[str | None, typer.Argument(metavar="ID", help="Show the letters about this event.")] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """List the dead letters, or show those about one event with all that is known."""
    runtime.run(_dead(event, nats, domain, as_json))


async def _dead(event: str | None, nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        found = await _found(bus, event)
        again = {letter.seq: await _sent_again(bus, letter) for letter in found}
    if as_json:
        print_json([{**_fields(letter), "redriven": again[letter.seq]} for letter in found])
    elif event is None:
        print_letters(found)
        if any(again.values()):
            say(f"{sum(map(bool, again.values()))} of them were sent again; `hocket dead ID` shows as what")
    else:
        for letter in found:
            _print_letter(letter, again[letter.seq])


def _print_letter(letter: DeadLetter, again: str | None) -> None:
    lines = [
        f"{letter.agent} {letter.version} could not handle {letter.type or 'what it got'} {letter.id}",
        f"  {letter.reason}: {letter.error}",
        f"  after {letter.attempts} attempts, {clock_time(letter.stored)}; key {letter.key}, saga {letter.saga}",
    ]
    if again:
        lines.append(f"  sent again as {again}")
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
    every: Annotated[bool, typer.Option("--all", help="Every dead letter that was not sent again yet.")] = False,
    agent: Annotated[str | None, typer.Option(help="Only letters of this agent.")] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Send what could not be handled again, to the agent that could not handle it and to nobody else.

    A letter is sent once, however often this is called; when it dies again, there is a new letter. Exit code
    1: some could not be sent.
    """
    if (event is None) == (not every):
        raise typer.BadParameter("give an event's id, or --all")
    raise typer.Exit(runtime.run(_redrive(event, agent, nats, domain, as_json)))


async def _redrive(event: str | None, agent: str | None, nats: str | None, domain: str | None, as_json: bool) -> int:
    sent = []
    stayed = 0
    async with opened(running_place(nats, domain)) as bus:
        for letter in await _found(bus, event):
            if agent not in (None, letter.agent):
                continue
            if event is None and await _sent_again(bus, letter):
                continue
            try:
                receipt = await redrive(bus, letter)
            except (NotFound, MalformedEvent) as error:
                stayed += 1
                say(f"{letter.id} of {letter.agent} stays: {error}")
                continue
            sent.append({"id": letter.id, "agent": letter.agent, "as": receipt.id, "duplicate": receipt.duplicate})
            if not as_json:
                known = "was sent before" if receipt.duplicate else "sent again"
                print(f"{letter.id} {known} to {letter.agent} as {receipt.id}")
    if as_json:
        print_json(sent)
    elif not sent and not stayed:
        print("nothing to send")
    return EXIT_SOME_STAYED if stayed else 0


async def _found(bus: Bus, event: str | None) -> list[DeadLetter]:
    found = [letter async for letter in letters(bus, event_id=event)]
    if event is not None and not found:
        raise NotFound(f"no dead letter is about event {event!r}")
    return found


async def _sent_again(bus: Bus, letter: DeadLetter) -> str | None:
    """The id under which a letter's event was sent again; None: it was not."""
    try:
        await bus.find(redriven_id(letter))
    except NotFound:
        return None
    return redriven_id(letter)


def _fields(letter: DeadLetter) -> dict[str, object]:
    return {name: getattr(letter, name) for name in letter.__slots__}
