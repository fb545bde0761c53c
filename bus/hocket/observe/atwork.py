"""Who is at work, and who should be: heartbeats, supervisors and the log put together, one line an agent and shard."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hocket.engine.owner import OWNER, Claim
from hocket.host.failures import Failure
from hocket.host.health import Card
from hocket.host.roster import Entry
from hocket.observe.holds import Held

SILENT = "silent"
FAILED = "failed"
PAUSED = "paused"

NOTHING_HELD: Mapping[tuple[str, int], Held] = {}


@dataclass(frozen=True, slots=True)
class AtWork:
    """One agent on one shard, as an instance or a supervisor says that it stands."""

    agent: str
    shard: int | None
    """None: of all of them, since no instance is heard."""

    state: str
    """`owner`, `standby`, `released`; `paused`; `starting`, `blocked`, `stopping`, `restarting`, `failed`; `silent`."""

    role: str
    """What its instance says that it is; without one the same as `state`."""

    service: str = ""
    version: str = ""
    host: str = ""
    pid: int | None = None
    instance: str = ""
    token: int = 0
    lag: int | None = None
    handled: int = 0
    held: int = 0
    """How many events wait because their key or their saga is in quarantine."""

    concurrency: int = 0
    """The most handlers that it runs at once."""

    restarts: int | None = None
    """How often its supervisor has started its service again; None: no supervisor is heard."""

    memory_bytes: int | None = None
    memory_max_bytes: int | None = None
    since: str = ""
    """Since when it owns, or stands as it does."""

    blocks: int = 0
    blocked: str = ""
    why: str = ""
    """What is the matter; empty: nothing is."""

    next: str = ""
    """The command to go on with, where there is one."""

    consumes: tuple[str, ...] = ()
    emits: tuple[str, ...] = ()
    heard_s_ago: float | None = None


def at_work(
    cards: Sequence[Card],
    entries: Sequence[Entry],
    failures: Sequence[Failure],
    claims: Mapping[tuple[str, int], tuple[int, Claim]],
    now_s: float,
    *,
    paused: Mapping[tuple[str, int], Held] = NOTHING_HELD,
) -> list[AtWork]:
    """Put together what is heard and what the log knows.

    `claims` are by agent and shard, with their tokens; so are those that are `paused`.
    """
    kept = {entry.instance: entry for entry in entries}
    # A process that has ended is heard for a while: its supervisor knows better.
    living = [card for card in cards if card.instance not in kept or kept[card.instance].pid == card.pid]
    lines = [_of_card(card, kept.get(card.instance), claims, now_s) for card in living]
    heard = {(card.instance, card.agent) for card in living}
    lines += [line for entry in entries for line in _of_entry(entry, heard)]
    known = {(entry.host, entry.service) for entry in entries}
    active = {(card.host, card.agent) for card in living}
    for failure in failures:
        if (failure.event.host, failure.event.service) not in known:
            lines += [line for line in _of_failure(failure) if (line.host, line.agent) not in active]
    listed = {(line.agent, line.shard) for line in lines} | {(line.agent, None) for line in lines if line.shard is None}
    for (agent, shard), (token, claim) in claims.items():
        if not listed & {(agent, shard), (agent, None)}:
            lines.append(AtWork(agent, shard, SILENT, SILENT, token=token, since=claim.claimed, next="hocket up"))
    lines = [_of_pause(line, paused.get((line.agent, line.shard or 0))) for line in lines]
    rank = {"owner": 0, "paused": 0, "standby": 1}
    return sorted(lines, key=lambda line: (line.agent, line.shard or 0, rank.get(line.state, 2), line.instance))


def _of_pause(line: AtWork, paused: Held | None) -> AtWork:
    """What is paused and would be at work; who is in trouble besides has to be seen to first."""
    if paused is None or line.state not in (OWNER, SILENT):
        return line
    return replace(line, state=PAUSED, why=str(paused), since=paused.since, next=f"hocket resume {line.agent}")


def _of_card(
    card: Card, entry: Entry | None, claims: Mapping[tuple[str, int], tuple[int, Claim]], now_s: float
) -> AtWork:
    token, claim = claims.get((card.agent, card.shard), (0, None))
    owns = card.role == OWNER and claim is not None and token == card.token
    line = AtWork(
        agent=card.agent,
        shard=card.shard,
        state=card.role,
        role=card.role,
        version=card.version,
        host=card.host,
        pid=card.pid,
        instance=card.instance,
        token=card.token,
        lag=card.lag,
        handled=card.handled,
        held=card.held,
        concurrency=card.concurrency,
        memory_bytes=card.memory_bytes,
        since=claim.claimed if owns and claim else card.started,
        blocks=card.blocks,
        blocked=card.blocked,
        consumes=card.consumes,
        emits=card.emits,
        heard_s_ago=round(now_s - card.heard_s, 1),
    )
    if entry is None:
        return line
    line = replace(line, service=entry.service, restarts=entry.restarts, memory_max_bytes=entry.memory_max_bytes)
    if entry.state in ("blocked", "stopping"):
        line = replace(line, state=entry.state, since=entry.since, why=entry.why)
    return line


def _of_entry(entry: Entry, heard: set[tuple[str, str]]) -> Iterator[AtWork]:
    """The agents of a service whose process is not heard."""
    state = SILENT if entry.state == "running" else entry.state
    for agent in entry.agents:
        if (entry.instance, agent) not in heard:
            yield AtWork(
                agent,
                None,
                state,
                state,
                service=entry.service,
                host=entry.host,
                pid=entry.pid,
                instance=entry.instance,
                restarts=entry.restarts,
                memory_bytes=entry.memory_bytes,
                memory_max_bytes=entry.memory_max_bytes,
                since=entry.since,
                why=entry.why,
                next=f"hocket restart {entry.service}" if state in (FAILED, "blocked") else "",
            )


def _of_failure(failure: Failure) -> Iterator[AtWork]:
    """The agents of a service that has failed, and whose supervisor is not heard."""
    event = failure.event
    ended = f"exit code {event.code}" if event.signal is None else event.signal
    for agent in event.agents:
        yield AtWork(
            agent,
            None,
            FAILED,
            FAILED,
            service=event.service,
            host=event.host,
            restarts=event.restarts,
            since=event.at,
            why=f"{event.restarts + 1} ends within {event.window_s:g} s, at last {event.reason} with {ended}",
            next="hocket up",
        )


__all__ = ["AtWork", "at_work"]
