"""Commands that look into the log: `sagas`, `why`, `history`."""

from typing import Annotated

import typer

from hocket.cli.deeds import named, outcome, print_handlings, took, waiting_for
from hocket.cli.known import policies
from hocket.cli.lineage import print_calls, print_origins
from hocket.cli.output import AsJson, clock_time, print_json, print_table, say, short
from hocket.cli.reach import Domain, Nats, reading
from hocket.errors import NotFound
from hocket.host import runtime
from hocket.observe.budgets import BudgetLine, budget_of
from hocket.observe.fact import Fact
from hocket.observe.history import Entry, Remembered, RunHead, State, history
from hocket.observe.knowledge import Knowing, Knowledge, knowledge_of
from hocket.observe.letters import DeadLetter
from hocket.observe.sagas import SagaLine, SagaState, facts_in, fold, record_of
from hocket.observe.why import Chain, why
from hocket.saga.record import Record

commands = typer.Typer()


@commands.command("sagas", epilog="Example: hocket sagas")
def sagas_command(
    saga: Annotated[str | None, typer.Argument(metavar="ID", help="Show the events of this one.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most sagas to list, the newest first; 0: all.")] = 50,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only those that wait for a person or are quiet too long.")
    ] = False,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """List the sagas in the log and how they stand, or show one with its events and what it did outside."""
    runtime.run(_sagas(saga, limit, stuck, nats, domain, as_json))


async def _sagas(
    saga: str | None, limit: int, stuck: bool, nats: str | None, domain: str | None, as_json: bool
) -> None:
    declared = policies()
    async with reading(nats, domain) as bus:
        facts = [fact async for fact in facts_in(bus, saga)]
        record = await record_of(bus, saga) if saga is not None else None
        known = await knowledge_of(bus, saga, facts) if saga is not None else []
        now_s = await bus.logs[0].time_s()  # sagas begin by the server's clock
        budget = await budget_of(bus, saga, now_s) if saga is not None else []
    lines = fold(declared, facts, now_s)
    if stuck:
        lines = [line for line in lines if line.state is SagaState.STUCK or line.quiet_since]
    if saga is not None:
        if not lines:
            raise NotFound(f"no event of saga {saga!r} is in the log")
        if as_json:
            told = {"saga": lines[0], "events": facts, "record": record and record.model_dump()}
            print_json({**told, "knowledge": known, "budget": budget})
        else:
            _print_sagas(lines)
            _print_family(lines[0])
            print()
            _print_entries(facts)
            if record is not None and any(effect.link is None for effect in record.effects):
                print()
                _print_effects(record)
            if known:
                print()
                _print_knowledge(known)
            if budget:
                print()
                _print_budget(budget)
        return
    shown = lines[:limit] if limit else lines
    if as_json:
        print_json(shown)
        return
    _print_sagas(shown)
    if len(shown) < len(lines):
        say(f"{len(lines) - len(shown)} older ones are not listed; --limit 0 lists all")


def _print_sagas(lines: list[SagaLine]) -> None:
    print_table(
        ("saga", "policy", "state", "events", "started", "newest event"),
        ((line.id, line.name, line.state, line.events, clock_time(line.started), line.last_type) for line in lines),
        empty="no sagas",
    )
    for line in lines:
        if line.state is SagaState.STUCK:
            say(f"{line.id}: {line.reason}; next: hocket saga retry|skip|resolve {line.id}")
        elif line.quiet_since:
            heard = f"nothing heard since {clock_time(line.quiet_since)}; the last was {line.last_heard}"
            say(f"{line.id}: {heard}; next: hocket sagas {line.id}, and see who should be at work on it")


def _print_family(line: SagaLine) -> None:
    """Which saga started it, and which it has started."""
    if line.parent:
        print(f"\nchild of {line.parent}")
    if line.children:
        print()
        print_table(
            ("child", "began with", "state", "why"),
            ((child.id, child.starts, child.state, child.reason) for child in line.children),
            empty="",
        )


def _print_effects(record: Record) -> None:
    """What the saga did outside, and how far its undoing has come."""
    told = {
        "done": "done",
        "sought": "looked for",
        "asked": "being undone",
        "undone": "undone",
        "void": "did not happen",
        "failed": "not undone",
        "skipped": "left",
    }
    print_table(
        ("effect", "agent", "state", "key", "trouble"),
        (
            (e.name, e.agent, "unknown" if e.unknown and e.state == "done" else told[e.state], e.key, e.error)
            for e in record.effects
            if e.link is None
        ),
        empty="",
    )


def _print_knowledge(known: list[Knowledge]) -> None:
    """Whose state has something of the saga."""
    told = {
        Knowing.CHANGED: "changed by it",
        Knowing.TOLD: "changed by it, and told that it is undone",
        Knowing.POSSIBLE: "may hold something of it",
    }
    print_table(("agent", "key", "its state"), ((k.agent, k.key, told[k.state]) for k in known), empty="")


def _print_budget(budget: list[BudgetLine]) -> None:
    """What the saga has used up, and who did."""
    print_table(
        ("budget", "most", "spent", "by"),
        (
            (line.limit, f"{line.most:g}", f"{line.spent:g}", ", ".join(f"{a} {n:g}" for a, n in line.by_agent.items()))
            for line in budget
        ),
        empty="",
    )
    units = [line.limit for line in budget if line.by_call]
    calls = dict.fromkeys((agent, name) for line in budget for agent, own in line.by_call.items() for name in own)
    if calls:
        print()
        spent = {line.limit: line.by_call for line in budget}
        print_table(
            ("agent", "what it called", *units),
            (
                (agent, name, *(f"{spent[unit].get(agent, {}).get(name, 0):g}" for unit in units))
                for agent, name in calls
            ),
            empty="",
        )


@commands.command("why", epilog="Example: hocket why 5kx3q7mzw2ab4c6d.0")
def why_command(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id.")],
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Show how an event came about: its causes back to the one that came from outside, and what it led to."""
    runtime.run(_why(event, nats, domain, as_json))


async def _why(event: str, nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        chain = await why(bus, event)
    if as_json:
        print_json(chain)
    else:
        _print_chain(chain)


def _print_chain(chain: Chain) -> None:
    if chain.missing:
        print(f"(its first cause known, {chain.missing}, is no longer in the log)")
    rows = [
        (
            "  " * depth + fact.type,
            f"sent again to {fact.to}" if depth and fact.type == chain.facts[depth - 1].type else _by(fact),
            fact.key,
            fact.saga,
            clock_time(fact.stored),
            fact.id,
        )
        for depth, fact in enumerate(chain.facts)
    ]
    print_table(("event", "from", "key", "saga", "stored", "id"), rows, empty="")
    if chain.handlings:
        print("\nwhat they did")
        print_handlings(chain.handlings)
    if chain.calls:
        print("\nwhat models were asked")
        print_calls(chain.calls)
    if chain.origins:
        print("\nwhere it comes from")
        print_origins(chain.origins)
    if chain.led_to:
        print("\nled to")
        _print_entries(list(chain.led_to))
    if chain.letters:
        print("\ndead letters")
        print_letters(list(chain.letters))


def _by(fact: Fact) -> str:
    """Who published it, an agent with its version; and to whom, if it is addressed."""
    if fact.to is not None:
        return f"{fact.source.rpartition('/')[2]} to {fact.to}"
    return f"{fact.publisher} {fact.version}" if fact.cause is not None and fact.version else fact.publisher


@commands.command("history", epilog="Example: hocket history order-7")
def history_command(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key; of a saga without a key of its own, its id.")],
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Show everything that the log holds under a key, in log order."""
    runtime.run(_history(key, nats, domain, as_json))


async def _history(key: str, nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        entries = await history(bus, key)
    if as_json:
        print_json([{**_fields(entry), "kind": _kind(entry)} for entry in entries])
    else:
        _print_entries(entries)


def _print_entries(entries: list[Entry] | list[Fact]) -> None:
    print_table(
        ("seq", "stored", "kind", "what", "by", "id", "data"),
        ((entry.seq, clock_time(entry.stored), _kind(entry), *_columns(entry)) for entry in entries),
        empty="nothing",
    )


def _kind(entry: Entry) -> str:
    match entry:
        case Fact():
            return "event" if entry.to is None else "command"
        case DeadLetter():
            return "dead letter"
        case State():
            return "state"
        case RunHead():
            return "open run"
        case Remembered():
            return entry.kind


def _fields(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__slots__}


def _columns(entry: Entry) -> tuple[object, ...]:
    """What an entry is, who made it, its id and what is in it."""
    match entry:
        case Fact():
            return entry.type, _by(entry), entry.id, entry.trouble or short(entry.data)
        case DeadLetter():
            status = "" if entry.status == "open" else f"{entry.status}; "
            before = f"; before: {'; '.join(entry.causes)}" if entry.causes else ""
            return entry.type, entry.agent, entry.id, short(f"{status}{entry.reason}: {entry.error}{before}")
        case State():
            return "", entry.agent, "", short(entry.state)
        case RunHead():
            return entry.handler, entry.agent, entry.run, f"{waiting_for(entry)}, on the event at {entry.event_seq}"
        case Remembered():
            return named(entry), entry.agent, entry.run, _outcome(entry)


def _outcome(entry: Remembered) -> str:
    """What became of it, after how long it took."""
    return f"({took(entry)}) {outcome(entry)}" if took(entry) else outcome(entry)


FOLLOWED = {"hold": "open, key waits", "fail_saga": "open, failed its saga", "escalate": "open, escalated"}
"""How an open letter stands, by what its handler wanted to follow."""


def print_letters(letters: list[DeadLetter]) -> None:
    """Print dead letters, one a line."""
    print_table(
        ("id", "agent", "event", "attempts", "stored", "status", "why"),
        (
            (
                each.id,
                each.agent,
                each.type,
                each.attempts,
                clock_time(each.stored),
                each.status if each.status != "open" else FOLLOWED.get(each.then, each.status),
                short(f"{each.reason}: {each.error}"),
            )
            for each in letters
        ),
        empty="no dead letters",
    )
