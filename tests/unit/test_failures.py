"""What a supervisor has to say gets into the log once, however long the log is away; and what a process prints."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from hocket.beside import beside
from hocket.client import open_bus
from hocket.host.failures import Announcements
from hocket.host.line import ChildEnd, HostEnd
from hocket.host.printed import LINE_LENGTH_MAX, LINES_KEPT, Printed
from hocket.log.memory import MemoryServer
from hocket.testing import run_virtual
from hocket_schemas.services import ServiceRestored


def restored(service: str) -> ServiceRestored:
    return ServiceRestored(service=service, agents=[service], host="h", failure="f", at="2026-01-01T00:00:00.000Z")


def test_what_is_said_while_the_log_is_away_is_said_once_when_it_is_back() -> None:
    async def story() -> None:
        server = MemoryServer()
        async with open_bus([server.connect()], publisher="supervisor") as bus:
            announcements = Announcements(bus)
            async with beside(announcements.run()):
                server.stop()
                for name in ("ada", "bob", "ada"):
                    announcements.say(restored(name), service=name, saga="f", event_id=f"{name}-restored")
                await asyncio.sleep(60)
                server.start()
                await announcements.said()

            stored = [(d.envelope.id, d.envelope.partitionkey) async for d in bus.read(ServiceRestored)]

        assert stored == [("ada-restored", "ada"), ("bob-restored", "bob")]

    run_virtual(story())


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110 - it is the loop's own readers that make it so
            await asyncio.sleep(0.01)


async def test_what_a_process_prints_is_passed_on_and_its_last_lines_are_kept(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        printed = Printed(output.fileno())
    text = "".join(f"line {number}\n" for number in range(100)) + "x" * 1000 + "\n\x1b[2Jlast"

    os.write(printed.child, text.encode())
    printed.drain()
    kept = printed.last
    printed.started()
    await until(lambda: not printed.open)

    assert (tmp_path / "output").read_text() == text
    assert len(kept) == LINES_KEPT
    assert kept[-3:] == ["line 99", "x" * LINE_LENGTH_MAX, "�[2Jlast"]


async def test_a_line_carries_beats_and_words_to_the_supervisor_and_its_end_to_the_child() -> None:
    heard: list[dict[str, object]] = []
    host = HostEnd(heard.append)
    child = ChildEnd(host.child.fileno())

    child.beat()
    child.say({"blocked": 1})
    os.write(host.child.fileno(), b"no JSON\n[]\n")
    child.beat()
    await until(lambda: host.beats == 2)
    host.child.setblocking(False)
    end = host.child.dup()
    host.close()

    assert heard == [{"blocked": 1}]
    assert end.recv(1) == b""
    child.beat()  # nobody is there any more, which is no error
    child.close()
    end.close()


async def test_a_child_that_nobody_listens_to_is_not_held_up() -> None:
    host = HostEnd(lambda fields: None)
    child = ChildEnd(host.child.fileno())

    for _ in range(100):
        child.say({"blocked": "x" * 10_000})

    child.close()
    host.close()


def test_a_child_without_a_line_says_nothing() -> None:
    reading, writing = os.pipe()
    child = ChildEnd(reading)

    child.beat()
    child.close()

    for descriptor in (reading, writing):
        os.close(descriptor)
