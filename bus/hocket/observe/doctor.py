"""Whether a system is in order: the server, its streams, the clocks, the agents, what could not be handled.

`examine_server` asks, `judge` decides: what is asked for is a value, and the verdicts are functions of it. What
cannot be found out is said to be unknown, never assumed.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import orjson

from hocket.clock import Clock, SystemClock
from hocket.engine.owner import OWNER
from hocket.errors import LogError
from hocket.host.failures import Failure
from hocket.host.health import Card
from hocket.log.jetstream import SERVER_VERSION_MIN
from hocket.log.jetstream_link import Link
from hocket.log.topology import Refuse, StreamSettings, Update, plan, stream_name, stream_settings
from hocket.log.wire import Frame
from hocket.observe.growth import Growth, growth_of
from hocket_schemas.moment import datetime_of

ANSWER_S = 3.0
"""How long to wait for each answer."""

CLOCK_OFF_S = 1.0
"""A clock that differs by more is worth a warning: events and logs are stamped by it. Timers go by the server's."""

FULL_SHARE_WARNING = 0.8
FULL_SHARE_FAILED = 0.95
"""Shares of a stream's room; a full stream refuses to take more."""

DISK_BYTES_WARNING = 1 << 30
DISK_BYTES_FAILED = 1 << 24
"""Room left on the disk of a server that runs here; on a full one nothing is stored."""

FULL_SOON_DAYS = 7.0
"""A stream that is full sooner than this, at the rate of the last day, is worth a warning."""

LAG_WARNING = 1000
"""An agent for which more events wait than this has fallen behind."""

_SYNC = re.compile(r"sync_interval:\s*\"?([a-z0-9.]+)")


class Verdict(StrEnum):
    """What an examination comes to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was examined."""

    what: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A shard's stream as the server describes it."""

    shard: int
    settings: StreamSettings | None
    """None: it does not exist."""

    bytes: int = 0
    replicas_behind: tuple[str, ...] = ()
    """Replicas that are offline or not up to date."""

    leader: str = ""
    growth: Growth | None = None
    """What it consists of, and how that becomes more; None: nobody could say."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found out about a system."""

    url: str
    version: tuple[int, int, int]
    user: str | None
    """Who we are to the server; empty: nobody asked; None: it does not say."""

    may: str
    """What the server lets us do, in words; empty: everything, as far as it says."""

    clock_off_s: float | None
    """How much the server's clock is ahead of ours."""

    sync: str | None
    """When the server's store is flushed to disk: `always`, or an interval; None: nobody could say."""

    domain: str
    streams: tuple[Stream, ...]
    cards: tuple[Card, ...] = ()
    owned: tuple[tuple[str, int], ...] = ()
    """Agent and shard of every claim in the log."""

    letters: int = 0
    """Dead letters that nobody has sent again or discarded."""

    escalated: int = 0
    """Those of them that somebody has to look at, as their handlers want it."""

    disk_free: int | None = None
    """Bytes left where the server keeps its log; None: that is not on this machine."""

    failures: tuple[Failure, ...] = ()
    """The services that have failed and were not restored since."""


async def examine_server(url: str, *, domain: str, sync: str | None = None, clock: Clock | None = None) -> Examined:
    """Ask the server about itself and the domain's streams. Raises Unavailable when it does not answer at all."""
    loop = asyncio.get_running_loop()
    async with Link(url, name="doctor", inbox_prefix="_INBOX") as link:
        version = await link.server_version(loop.time() + ANSWER_S)
        asked_s = (clock or SystemClock()).now_s()
        about = await _ask(link, "$SYS.REQ.USER.INFO")
        answered_s = (clock or SystemClock()).now_s()
        first = await _stream(link, domain, 0, asked_s)
        count = first.settings.shards if first.settings else 1
        streams = [first, *[await _stream(link, domain, shard, asked_s) for shard in range(1, count)]]
    server_time = (about or {}).get("server", {}).get("time")
    off_s = datetime_of(server_time).timestamp() - (asked_s + answered_s) / 2 if server_time else None
    us = (about or {}).get("data", {})
    user = us.get("user", "") if about else None
    return Examined(url, version, user, _allowed(us.get("permissions")), off_s, sync, domain, tuple(streams))


def sync_in_config(text: str) -> str | None:
    """What a server's configuration file says about flushing; None when it says nothing."""
    found = _SYNC.search(text)
    return found[1] if found else None


def sync_in_varz(varz: Mapping[str, Any]) -> str | None:
    """What a server's monitoring page `/varz` says about flushing; None when it says nothing."""
    config = varz.get("jetstream", {}).get("config", {})
    if config.get("sync_always"):
        return "always"
    interval_ns = config.get("sync_interval")
    return f"{interval_ns / 1e9:g}s" if interval_ns else None


def judge(examined: Examined) -> list[Diagnosis]:
    """What the findings mean, in the order in which they matter."""
    return [
        _server(examined),
        _sync(examined),
        *(_stream_as_wanted(examined, stream) for stream in examined.streams),
        *(_room(stream) for stream in examined.streams if stream.settings),
        *_disk(examined),
        *(_growth(stream) for stream in examined.streams if stream.growth),
        *(_replicas(stream) for stream in examined.streams if stream.settings),
        _clock(examined),
        _access(examined),
        *_agents(examined),
        *(_failure(failure) for failure in examined.failures),
        _letters(examined),
    ]


def _server(examined: Examined) -> Diagnosis:
    text = ".".join(map(str, examined.version))
    if examined.version < SERVER_VERSION_MIN:
        least = ".".join(map(str, SERVER_VERSION_MIN))
        return Diagnosis("server", Verdict.FAILED, f"nats-server {text}; the log needs {least} or newer")
    return Diagnosis("server", Verdict.OK, f"nats-server {text}")


def _sync(examined: Examined) -> Diagnosis:
    match examined.sync:
        case "always":
            return Diagnosis("fsync", Verdict.OK, "the disk has an append before it is acknowledged")
        case None:
            return Diagnosis(
                "fsync",
                Verdict.UNKNOWN,
                "the server does not say; name its monitoring port: --monitor http://HOST:8222",
            )
        case interval:
            return Diagnosis(
                "fsync", Verdict.WARNING, f"every {interval}: a power failure can lose what was acknowledged since"
            )


def _stream_as_wanted(examined: Examined, stream: Stream) -> Diagnosis:
    what = f"stream {stream_name(examined.domain, stream.shard)}"
    if stream.settings is None:
        return Diagnosis(what, Verdict.FAILED, "does not exist; `hocket up` or `hocket run` makes it")
    shards = examined.streams[0].settings.shards if examined.streams[0].settings else 1
    wanted = stream_settings(examined.domain, stream.shard, shards=shards, like=stream.settings)
    for change in plan(stream.settings, wanted):
        if isinstance(change, Refuse):
            return Diagnosis(what, Verdict.FAILED, "; ".join(map(str, change.differences)))
        if isinstance(change, Update):
            return Diagnosis(what, Verdict.WARNING, "; ".join(map(str, change.differences)))
    return Diagnosis(what, Verdict.OK, "configured as promised")


def _room(stream: Stream) -> Diagnosis:
    assert stream.settings is not None
    most = stream.settings.max_bytes
    share = stream.bytes / most if most > 0 else 0.0
    verdict = Verdict.OK
    if share >= FULL_SHARE_WARNING:
        verdict = Verdict.FAILED if share >= FULL_SHARE_FAILED else Verdict.WARNING
    return Diagnosis(f"room on shard {stream.shard}", verdict, f"{stream.bytes:,} of {most:,} bytes, {share:.0%}")


def _disk(examined: Examined) -> list[Diagnosis]:
    free = examined.disk_free
    if free is None:
        return []
    detail = f"{free:,} bytes left"
    if free < DISK_BYTES_FAILED:
        detail += "; full, nothing is stored: make room, and restart the server unless `hocket up` runs it"
        return [Diagnosis("disk", Verdict.FAILED, detail)]
    return [Diagnosis("disk", Verdict.WARNING if free < DISK_BYTES_WARNING else Verdict.OK, detail)]


def _growth(stream: Stream) -> Diagnosis:
    assert stream.growth is not None
    days = stream.growth.full_in_days
    verdict = Verdict.WARNING if days is not None and days < FULL_SOON_DAYS else Verdict.OK
    return Diagnosis(f"contents of shard {stream.shard}", verdict, str(stream.growth))


def _replicas(stream: Stream) -> Diagnosis:
    assert stream.settings is not None
    what = f"replicas of shard {stream.shard}"
    if stream.replicas_behind:
        return Diagnosis(what, Verdict.WARNING, f"not up to date: {', '.join(stream.replicas_behind)}")
    if not stream.leader:
        return Diagnosis(what, Verdict.FAILED, "no server leads the stream")
    count = stream.settings.num_replicas
    if count == 1:
        return Diagnosis(what, Verdict.OK, f"1, on {stream.leader}: losing its disk would lose the log")
    return Diagnosis(what, Verdict.OK, f"{count}, {stream.leader} leads")


def _clock(examined: Examined) -> Diagnosis:
    off_s = examined.clock_off_s
    if off_s is None:
        return Diagnosis("clock", Verdict.UNKNOWN, "the server does not say what time it is")
    verdict = Verdict.WARNING if abs(off_s) > CLOCK_OFF_S else Verdict.OK
    return Diagnosis("clock", verdict, f"the server's differs from ours by {off_s * 1000:+.0f} ms")


def _access(examined: Examined) -> Diagnosis:
    hosts = {urlsplit(url if "//" in url else f"//{url}").hostname for url in examined.url.split(",")}
    local = hosts <= {"127.0.0.1", "localhost", "::1"}
    if examined.user is None:
        return Diagnosis("access", Verdict.UNKNOWN, "the server does not say who we are")
    if examined.user:
        return Diagnosis(
            "access", Verdict.OK, f"we are {examined.user}" + (f" and {examined.may}" if examined.may else "")
        )
    if local:
        return Diagnosis("access", Verdict.OK, "no password; the server is asked on this machine only")
    return Diagnosis("access", Verdict.WARNING, "no password: whoever reaches the server can write anything")


def _agents(examined: Examined) -> list[Diagnosis]:
    """One line for each agent and shard that has, or once had, an owner."""
    owners: dict[tuple[str, int], Card] = {}
    for card in examined.cards:
        if card.role == OWNER:
            best = owners.get((card.agent, card.shard))
            owners[card.agent, card.shard] = card if best is None or card.token > best.token else best
    found = []
    for agent, shard in sorted({*owners, *examined.owned, *((c.agent, c.shard) for c in examined.cards)}):
        what = f"agent {agent} on shard {shard}"
        owner = owners.get((agent, shard))
        if owner is None:
            found.append(Diagnosis(what, Verdict.WARNING, "nobody is heard as its owner"))
            continue
        standing_by = sum(1 for c in examined.cards if (c.agent, c.shard) == (agent, shard)) - 1
        verdict = Verdict.WARNING if (owner.lag or 0) > LAG_WARNING else Verdict.OK
        found.append(Diagnosis(what, verdict, f"{owner.lag} events wait, {standing_by} instances stand by"))
    return found or [Diagnosis("agents", Verdict.WARNING, "none is heard, and none has ever been")]


def _failure(failure: Failure) -> Diagnosis:
    event = failure.event
    text = f"failed at {event.at} on {event.host}; mend it, then `hocket restart {event.service}`"
    return Diagnosis(f"service {event.service}", Verdict.FAILED, text)


def _letters(examined: Examined) -> Diagnosis:
    if examined.escalated:
        detail = f"{examined.letters} open, {examined.escalated} of them escalated; `hocket dead` lists them"
        return Diagnosis("dead letters", Verdict.FAILED, detail)
    if examined.letters:
        return Diagnosis("dead letters", Verdict.WARNING, f"{examined.letters} open; `hocket dead` lists them")
    return Diagnosis("dead letters", Verdict.OK, "none is open")


async def _stream(link: Link, domain: str, shard: int, now_s: float) -> Stream:
    info = await _ask(link, f"$JS.API.STREAM.INFO.{stream_name(domain, shard)}")
    if not info or "config" not in info:
        return Stream(shard, None)
    cluster = info.get("cluster") or {}
    behind: Sequence[Mapping[str, Any]] = cluster.get("replicas") or ()
    return Stream(
        shard,
        StreamSettings.from_api(info["config"]),
        bytes=int(info["state"]["bytes"]),
        replicas_behind=tuple(str(r.get("name")) for r in behind if r.get("offline") or not r.get("current")),
        leader=str(cluster.get("leader") or ""),
        growth=await growth_of(link, domain, shard, info, now_s),
    )


def _allowed(permissions: Mapping[str, Any] | None) -> str:
    """What the server says that we may do, such as `may publish a.> but not a.b, may subscribe _INBOX.>`."""
    said = []
    for verb in ("publish", "subscribe"):
        rules = (permissions or {}).get(verb) or {}
        allowed, denied = rules.get("allow") or [], rules.get("deny") or []
        if allowed or denied:
            but = f" but not {', '.join(denied)}" if denied else ""
            said.append(f"may {verb} {', '.join(allowed) or 'everything'}{but}")
    return ", ".join(said)


async def _ask(link: Link, subject: str) -> dict[str, Any] | None:
    """An answer of the server as JSON; None when it gives none, for instance since we may not ask."""
    try:
        answer = await link.ask([Frame(subject)], asyncio.get_running_loop().time() + ANSWER_S)
        read = orjson.loads(answer)
    except (LogError, ValueError):
        return None
    return read if isinstance(read, dict) else None


__all__ = ["Diagnosis", "Examined", "Stream", "Verdict", "examine_server", "judge", "sync_in_config", "sync_in_varz"]
