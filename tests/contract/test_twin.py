"""The twin held against the real log: random commands, the same answers and the same errors.

HOCKET_TWIN_RUNS sets how many sequences of commands; the suite goes through a hundred.
"""

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
from tests.contract.worlds import ROOM, soon, taken

from hocket.errors import HocketError
from hocket.ids import fresh
from hocket.log.base import APPEND_MESSAGES_MAX, Expect, Log, Message, Write
from hocket.log.jetstream import connect
from hocket.log.memory import PAYLOAD_BYTES_MAX, MemoryServer

RUNS = int(os.environ.get("HOCKET_TWIN_RUNS", "100"))
RUNS_PER_TEST = 50
COMMANDS = 20

RECORDS = ("cur.a", "act.a.k", "act.a.l", "act.b.k", "run.a.k.1", "jrn.a.k.1.0", "jrn.a.k.1.1", "jrn.a.k.2.0")
EVENTS = tuple(f"evt.{key}.{agent}.c{n // 2}.{n % 2}.t" for key in "kl" for agent in "ab" for n in range(4))
COVERS = ("evt.k.a.c1.>", "evt.l.b.c0.>", "evt.k.>", "jrn.a.k.1.*", "act.*.k", "evt.*.a.*.0.t", ">", "evt.z.>")
FILTERS = (
    *(["act.a.k"], ["act.a.*"], ["act.>"], ["evt.k.>", "act.*.k"], ["evt.*.*.*.0.t", "run.>", "cur.a"]),
    *([">"], ["jrn.a.k.1.*", "jrn.a.k.2.*", "own.a"], ["evt.*.b.>"], ["none.>"], list(RECORDS)),
)
UNFIT = ("evt..k", "", "act.a k", "act.*", "act.>", "é")


@dataclass(frozen=True)
class Append:
    """Writes, by the ends of their subjects."""

    writes: Sequence[Write]

    async def ask(self, log: Log, root: str) -> Any:
        return await log.append([_under(write, root) for write in self.writes])


@dataclass(frozen=True)
class Last:
    """The newest message of a subject."""

    tail: str

    async def ask(self, log: Log, root: str) -> Any:
        return _told(await log.last(root + self.tail), root)


@dataclass(frozen=True)
class End:
    """How long the log is."""

    async def ask(self, log: Log, root: str) -> Any:
        return await log.end()


@dataclass(frozen=True)
class Scan:
    """What is stored, up to so many messages."""

    tails: Sequence[str]
    start: int
    most: int

    async def ask(self, log: Log, root: str) -> Any:
        found = []
        async with aclosing(log.scan([root + tail for tail in self.tails], start=self.start)) as messages:
            async for message in messages:
                found.append(_told(message, root))
                if len(found) == self.most:
                    break
        return found


@dataclass(frozen=True)
class Consume:
    """A durable consumer's first deliveries."""

    name: str
    tails: Sequence[str]
    start: int
    count: int

    async def ask(self, log: Log, root: str) -> Any:
        async with log.consume(self.name, [root + tail for tail in self.tails], start=self.start) as consumption:
            return [_told(message, root) for message in await taken(consumption, self.count)]


Command = Append | Last | End | Scan | Consume


class Author:
    """Thinks of commands that mean something to a log as it stands."""

    def __init__(self, seed: int, server: MemoryServer, root: str) -> None:
        self._rng = random.Random(seed)
        self._server = server
        self._root = root
        self._written = 0

    def command(self) -> Command:
        """The next command."""
        make: Callable[[], Command] = self._rng.choices(
            (self._append, self._last, End, self._scan, self._consume), (12, 3, 1, 4, 2)
        )[0]
        return make()

    def _tail(self) -> str:
        return self._rng.choice(self._rng.choice((RECORDS, EVENTS)))

    def _append(self) -> Append:
        count = self._rng.choice((1, 1, 2, 3, 6))
        writes = [self._write() for _ in range(count)]
        if self._rng.random() < 0.03:
            unfit = Write(self._rng.choice(UNFIT), b"")
            writes.insert(self._rng.randint(0, count), unfit)
        if self._rng.random() < 0.002:
            writes[-1] = writes[-1]._replace(data=bytes(PAYLOAD_BYTES_MAX + 1))
        if self._rng.random() < 0.002:
            writes = [Write(f"many.{n}", b"") for n in range(APPEND_MESSAGES_MAX + self._rng.randint(0, 1))]
        return Append([] if self._rng.random() < 0.01 else writes)

    def _write(self) -> Write:
        self._written += 1
        subject = self._tail()
        headers = {"Content-Type": f"x/{self._written}"} if self._rng.random() < 0.3 else None
        return Write(subject, b"%d" % self._written, self._expect(subject), headers=headers)

    def _expect(self, subject: str) -> Expect | None:
        chance = self._rng.random()
        if chance < 0.5:
            return None
        where = subject if chance < 0.7 else self._rng.choice(COVERS) if chance < 0.85 else self._tail()
        found = self._server.since(1, [self._root + where], 1 << 30)
        newest = found[-1].seq if found else 0
        return Expect(where, newest if self._rng.random() < 0.85 else self._rng.randint(0, self._server.end + 1))

    def _last(self) -> Last:
        return Last(self._tail())

    def _start(self) -> int:
        return self._rng.choice((1, 1, self._rng.randint(1, self._server.end + 2)))

    def _scan(self) -> Scan:
        return Scan(self._rng.choice(FILTERS), self._start(), self._rng.choice((1 << 30, 1 << 30, 1, 3)))

    def _consume(self) -> Consume:
        tails, start = self._rng.choice(FILTERS), self._start()
        there = len(self._server.since(start, [self._root + tail for tail in tails], 1 << 30))
        return Consume(self._rng.choice("xy"), tails, start, self._rng.randint(0, there))


@pytest.mark.parametrize("first", range(0, RUNS, RUNS_PER_TEST))
async def test_the_twin_answers_as_the_real_log_does(nats_url: str, first: int) -> None:
    answered, refused = 0, 0
    for seed in range(first, first + RUNS_PER_TEST):
        async with connect(nats_url, domain=fresh(), max_bytes=ROOM) as [real]:
            server = MemoryServer(domain=real.domain)
            twin, root = server.connect(), f"{real.domain}.0."
            author = Author(seed, server, root)

            for n in range(COMMANDS):
                command = author.command()
                wanted, told = await answer(real, command, root), await answer(twin, command, root)

                assert told == wanted, f"seed {seed}, command {n}: {_short(command)}"
                refused += isinstance(wanted, type)
                answered += not isinstance(wanted, type)

            await real._api.ask(f"STREAM.DELETE.{real.stream}", None, soon())
    assert answered > 10 * RUNS_PER_TEST, "too little was done to prove anything"
    assert refused > RUNS_PER_TEST, "hardly anything was refused"


async def answer(log: Log, command: Command, root: str) -> Any:
    """What a log gives for a command; of a refusal its type."""
    try:
        async with asyncio.timeout(10):
            return await command.ask(log, root)
    except HocketError as refusal:
        return type(refusal)


def _under(write: Write, root: str) -> Write:
    expect = write.expect and write.expect._replace(subject=root + write.expect.subject)
    return write._replace(subject=root + write.subject, expect=expect)


def _told(message: Message | None, root: str) -> Any:
    """A message, but for the time and the lag that each log has for itself."""
    if message is None:
        return None
    return message.subject.removeprefix(root), message.seq, message.data, dict(message.headers)


def _short(command: Command) -> str:
    if isinstance(command, Append):
        return f"Append {[(w.subject, w.data[:8], w.expect) for w in islice(command.writes, 10)]}"
    return repr(command)
