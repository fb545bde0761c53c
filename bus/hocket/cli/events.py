"""The command that puts an event into the log: `publish`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer

from hocket.cli.known import declared_type
from hocket.cli.output import AsJson, harmless, print_json, say
from hocket.cli.reach import Domain, Nats, coming_place, opened
from hocket.client import Bus, Delivery
from hocket.clock import SystemClock, rfc3339
from hocket.host import runtime
from hocket.ids import fresh
from hocket.observe.fact import fact_of
from hocket.observe.letters import letters
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import MalformedEvent

commands = typer.Typer()

EXIT_NO_ANSWER = 1


@commands.command(epilog="""Example: hocket publish greeting.asked.v1 '{"name": "Ada"}' --wait greeting.given.v1""")
def publish(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="Such as order.placed.v1.")],
    data: Annotated[str, typer.Argument(metavar="JSON", help="The event's fields as one JSON object; - reads them.")],
    key: Annotated[
        str | None, typer.Option(help="Events of one key are handled in order. Otherwise the saga's id.")
    ] = None,
    saga: Annotated[
        str | None, typer.Option(help="The saga that it belongs to. Otherwise the key, or its own id.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="Your own id: publishing it again under the same key changes nothing.")
    ] = None,
    wait: Annotated[
        list[str] | None, typer.Option("--wait", metavar="TYPE", help="Wait for an event of this type in the saga.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait, at most.")] = 30.0,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Publish an event, once, and wait for what comes of it.

    A type that hocket_schemas or a service here declares is checked first; any other is published as it is.
    With --wait the answer's data is printed: a single text as it is, anything else as JSON. Exit code 1: no
    answer came in time; the event stays published.
    """
    fields = _parsed(data)
    code = runtime.run(_publish(event_type, fields, key, saga, event_id, wait or [], timeout, nats, domain, as_json))
    raise typer.Exit(code)


async def _publish(
    event_type: str,
    fields: Any,
    key: str | None,
    saga: str | None,
    event_id: str | None,
    wait: Sequence[str],
    timeout_s: float,
    nats: str | None,
    domain: str | None,
    as_json: bool,
) -> int:
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    declared = declared_type(event_type)
    event_id = event_id or fresh()
    saga = saga or key or event_id
    place = await coming_place(nats, domain, wait_s=min(10.0, timeout_s))
    envelope = Envelope(
        id=event_id,
        source=f"/{place.domain}/cli",
        type=event_type,
        data=fields,
        time=rfc3339(SystemClock().now_s()),
        partitionkey=key or saga,
        correlationid=saga,
    )
    if declared is None:
        say(f"no class is known here for {event_type}: it is published as it is")
    else:
        gate.event_of(envelope, declared)
    retention = declared.retention if declared else None
    async with opened(place) as bus, bus.subscribe(*wait or [event_type]) as deliveries:
        receipt = await bus.publish_envelope(envelope, timeout_s=max(1.0, until - loop.time()), retention=retention)
        known = "was there already" if receipt.duplicate else "published"
        if not wait:
            if as_json:
                print_json(asdict(receipt))
            else:
                where = f"key={receipt.key} saga={receipt.saga} shard={receipt.shard} seq={receipt.seq}"
                print(f"{known}: {receipt.id} {where}")
            return 0
        say(f"{known}: {receipt.id} saga={receipt.saga}")
        try:
            async with asyncio.timeout_at(until):
                answer = await _answer(bus, deliveries, wait, saga, again=receipt.duplicate)
        except TimeoutError:
            await _say_why_not(bus, wait, saga, timeout_s)
            return EXIT_NO_ANSWER
    if as_json:
        print_json(fact_of(answer))
    else:
        shown = _shown(answer)
        print(harmless(shown) if sys.stdout.isatty() else shown)
    return 0


async def _answer(
    bus: Bus, deliveries: AsyncIterator[Delivery], wait: Sequence[str], saga: str, *, again: bool
) -> Delivery:
    """The first event of a wanted type in the saga; of an event that was there before, perhaps an old one."""
    if again:
        async for delivery in bus.read(*wait):
            if fact_of(delivery).saga == saga:
                return delivery
    async for delivery in deliveries:
        if fact_of(delivery).saga == saga:
            return delivery
    raise AssertionError("a followed log does not end")


async def _say_why_not(bus: Bus, wait: Sequence[str], saga: str, timeout_s: float) -> None:
    say(f"hocket: no {' or '.join(wait)} in saga {saga} within {timeout_s:g} s; the event stays published")
    async for letter in letters(bus):
        if letter.saga == saga and letter.status == "open":
            say(f"{letter.agent} could not handle {letter.type} {letter.id}: {letter.error}")
            say(f"try: hocket dead {letter.id}")
            return
    say("try: hocket agents")


def _parsed(text: str) -> dict[str, Any]:
    """The event's fields. Raises MalformedEvent."""
    try:
        fields = orjson.loads(sys.stdin.buffer.read() if text == "-" else text.encode())
    except ValueError as error:
        raise MalformedEvent(f"the data is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MalformedEvent(f'the data is {type(fields).__name__}, wants a JSON object such as \'{{"name": "Ada"}}\'')
    return fields


def _shown(answer: Delivery) -> str:
    """An answer's data: a single text as it is, anything else as JSON."""
    data = fact_of(answer).data
    if isinstance(data, dict) and len(data) == 1:
        [value] = data.values()
        if isinstance(value, str):
            return value
    return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
