"""Who may write for one agent on one shard: claims, heartbeats, and the scan that begins every tenure.

Safety comes from the claim's sequence alone, the fencing token; heartbeats only decide when somebody tries.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import orjson

from hocket.clock import rfc3339
from hocket.engine.cursor import Mark
from hocket.engine.ends import ended
from hocket.engine.runs import Head
from hocket.engine.schedules import Due
from hocket.errors import MalformedEvent
from hocket.lifeline import has_ended, own_name, watching
from hocket.log.base import Expect, Log, Message, Seq, Write
from hocket.policy import Limits
from hocket.process import Process
from hocket.subjects import Names

STANDBY = "standby"
RECOVERING = "recovering"
"""It has claimed, and reads what the owners before have left: it is alive, however long that takes."""

OWNER = "owner"
RELEASED = "released"

LOOKS_PER_SILENCE = 10
"""Silence is counted in looks, not read off a clock: a process that was stopped has not been listening."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The record under `own.{agent}`: who owns, and whether the owner left in good order."""

    instance: str
    claimed: str
    released: bool = False
    doubt: int | None = None
    """Events below this sequence may have been answered without a cursor that says so: suspects.

    None: below this record's own sequence, because the owner before did not leave in good order.
    """

    process: str | None = None
    """The owner's process, as `lifeline` names it: who is on the same machine sees at once that it has ended."""

    def to_json(self) -> bytes:
        """The record's body."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, body: bytes) -> "Claim":
        """Read a record's body. Raises MalformedEvent when it is no claim."""
        try:
            fields = orjson.loads(body)
            doubt, process = fields["doubt"], fields.get("process")
            return cls(
                str(fields["instance"]),
                str(fields["claimed"]),
                bool(fields["released"]),
                None if doubt is None else int(doubt),
                None if process is None else str(process),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedEvent(f"not a claim record: {body[:80]!r}") from error


@dataclass(frozen=True, slots=True)
class Found:
    """What a new owner finds: its token, how far the agent had come, and the runs that are open."""

    token: Seq
    doubt: int
    """Events below are suspects."""

    mark: Mark | None
    """None: the agent has never owned this shard."""

    in_hand: Seq | None = None
    """The owner before was another process and ended without leaving, and what it had in hand may be why. Nothing of
    that is later in the log than this.
    """

    runs: list[tuple[str, Head]] = field(default_factory=list)
    """The open runs by the subjects of their heads, in the order of their last change."""

    back: list[str] = field(default_factory=list)
    """The heads of runs that have ended, which a killed server has brought back."""

    dues: list[Due] = field(default_factory=list)
    """What is next due of each schedule that an owner before had."""


class Holder(NamedTuple):
    """An owner that may be alive, as its claim says."""

    claim: Claim
    token: Seq


async def holder(log: Log, names: Names, agent: str, instance: str) -> Holder | None:
    """The owner that may be alive; None: there was none ever, it has left, it has ended, or it is oneself."""
    message = await log.last(names.owner(agent))
    if message is None:
        return None
    claim = Claim.from_json(message.data)
    over = claim.released or claim.instance == instance or has_ended(claim.process)
    return None if over else Holder(claim, message.seq)


async def take_over(
    log: Log,
    names: Names,
    agent: str,
    process: Process,
    *,
    own: int = 0,
    meanwhile: Callable[[Seq], Coroutine[Any, Any, None]] | None = None,
) -> Found:
    """Claim, then read everything that the owners before have left. This is the only way to start.

    From the claim on every older owner is fenced, so what the scan finds up to the claim is all there is. `own`: the
    token of this process's last tenure, if it had one. `meanwhile` is called with the new one and runs beside the
    reading. Raises Conflict when somebody else claimed first; what goes wrong after that comes in a group.
    """
    subject = names.owner(agent)
    before = await log.last(subject)
    process.reach("before claim")
    now = rfc3339(process.clock.now_s())
    claim = Claim(process.instance, now, doubt=_doubt_after(before), process=own_name())
    asked_s = process.clock.own_s()
    token = await log.append([Write(subject, claim.to_json(), Expect(subject, before.seq if before else 0))])
    answered_s = process.clock.own_s()
    unclean = claim.doubt is None and before is not None and before.seq != own
    process.reach("after claim")
    async with asyncio.TaskGroup() as tasks:
        if meanwhile is not None:
            tasks.create_task(meanwhile(token))
        begun = tasks.create_task(_begun(log, names, agent, token))
        reading = tasks.create_task(_heads(log, names, agent, token))
        handed_out = tasks.create_task(log.handed_out(agent)) if unclean else None
    mark, dues, claimed_s = begun.result()
    if claimed_s is not None:  # before anything is decided by the clock
        process.clock.hear(claimed_s, asked_s=asked_s, answered_s=answered_s)
    heads = reading.result()
    over: set[str] = set()
    if heads and (mark is None or mark.runs != len(heads)):
        over = await ended(log, names, subject, [message.subject for message in heads])
    runs = [(m.subject, Head.from_json(m.data).lean) for m in heads if m.subject not in over]
    process.reach("after scan")
    known = handed_out.result() if handed_out else None
    in_hand = None if handed_out is None else token if known is None else min(known, token)
    doubt = token if claim.doubt is None else claim.doubt
    return Found(token, doubt, mark, in_hand, runs, sorted(over), dues)


async def _begun(log: Log, names: Names, agent: str, token: Seq) -> tuple[Mark | None, list[Due], float | None]:
    """How far an agent has come, what is next due of its schedules, and the server's time of the claim."""
    mark: Mark | None = None
    dues: list[Due] = []
    claimed_s: float | None = None
    async with aclosing(log.scan([names.owner(agent), names.cursor(agent), names.dues(agent)])) as messages:
        async for message in messages:
            if message.seq >= token:
                claimed_s = message.time_ns / 1e9 if message.seq == token else None
                break
            if message.subject == names.cursor(agent):
                mark = Mark.from_json(message.data)
            elif message.subject.startswith(f"{names.root}.due."):
                dues += [Due.from_json(message.data)] if message.data else []
    return mark, dues, claimed_s


async def _heads(log: Log, names: Names, agent: str, token: Seq) -> list[Message]:
    """The heads of runs that are there, in the order of their last change.

    By themselves: with one filter a server goes through its blocks, with several it may search each for each message.
    """
    async with aclosing(log.scan([names.runs(agent)])) as messages:
        return [message async for message in messages if message.data and message.seq < token]


def _doubt_after(before: Message | None) -> int | None:
    """What a claim has to doubt: nothing after none, as much as a claim that was released, else all before it."""
    if before is None:
        return 0
    claim = Claim.from_json(before.data)
    return claim.doubt if claim.released else None


async def release(log: Log, names: Names, agent: str, token: Seq, doubt: int | None, process: Process) -> None:
    """Leave in good order: the next owner need not wait for silence, nor suspect more than what is below `doubt`; None:
    whatever this one had in hand.

    Only to be called when nothing is in flight and the cursor in the log is up to date.
    """
    subject = names.owner(agent)
    claim = Claim(process.instance, rfc3339(process.clock.now_s()), released=True, doubt=doubt)
    process.reach("before release")
    await log.append([Write(subject, claim.to_json(), Expect(subject, token))])
    process.reach("after release")


class Others:
    """What an instance hears of the others that host the same agent and shard."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._heard = False
        self._ever_heard = False
        self._look_again: Callable[[], None] = _nobody
        """Called when the claim that is waited for is not the newest any more, or its owner says that it leaves."""

        self.followed = asyncio.Event()
        """Set when somebody is heard that stands by; since this instance has ceased to."""

        self.newest_token = 0
        """The highest token that any owner has told."""

    def hear(self, body: bytes) -> None:
        """Take a heartbeat in; what is no heartbeat is ignored, since anybody may send it."""
        try:
            card = orjson.loads(body)
            role, token = card["role"], int(card["token"])
            mine = card["instance"] == self._instance
        except (ValueError, KeyError, TypeError):
            return
        if mine:
            return
        if role == STANDBY:
            self.followed.set()
            return
        newer = token > self.newest_token
        self.newest_token = max(self.newest_token, token)
        if role == RELEASED:
            self._look_again()
        elif token >= self.newest_token:
            self._heard = self._ever_heard = True
            if newer:
                self._look_again()

    async def silence(self, holder: Holder, limits: Limits, stop: asyncio.Event) -> bool:
        """Wait until no owner has been heard for long enough; True: that is so.

        False as soon as the claim has to be looked at again, since its process has ended, its owner says that it
        leaves or somebody says that he has claimed since; and when `stop` is set.
        """
        loop, looks, quiet = asyncio.get_running_loop(), 0, False
        self._heard, self.newest_token = False, max(self.newest_token, holder.token)
        next_look: asyncio.TimerHandle

        def look_later() -> asyncio.TimerHandle:
            silence_s = limits.silence_s if self._ever_heard else limits.silence_at_start_s
            return loop.call_later(silence_s / LOOKS_PER_SILENCE, look)

        def look() -> None:
            nonlocal looks, quiet, next_look
            looks = 0 if self._heard else looks + 1
            self._heard = False
            quiet = looks == LOOKS_PER_SILENCE
            if quiet or has_ended(holder.claim.process):
                wake()
            else:
                next_look = look_later()

        def wake() -> None:
            if not waiting.expired():
                waiting.reschedule(loop.time())

        next_look = look_later()
        try:
            async with asyncio.timeout(None) as waiting:
                self._look_again = wake
                with watching(holder.claim.process, wake):
                    await stop.wait()
        except TimeoutError:
            pass
        finally:
            self._look_again = _nobody
            self.followed.clear()
            next_look.cancel()
        return quiet


def _nobody() -> None:
    """Who has to look at the claim again while nobody waits."""
