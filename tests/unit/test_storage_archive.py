"""Facts go into files before the log forgets them, each once, and what is missing from the log is named."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.errors import FileUnwritable
from hocket.log.base import Seq, Write
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.storage.archive import archive, archived_up_to
from hocket.storage.backup import back_up
from hocket.storage.checking import check, copies_in, messages_of
from hocket.storage.live import archived_ids, not_in_log, without_cause
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
DAY = timedelta(days=1)


class Asked(Event, type="archive.asked.v1", catalog=EVENTS, retention=DAY):
    n: int


class Answered(Event, type="archive.answered.v1", catalog=EVENTS, retention=10 * DAY):
    n: int


class Kept(Event, type="archive.kept.v1", catalog=EVENTS):
    pass


def oracle() -> Agent[None]:
    agent = Agent("oracle")

    @agent.on(Asked)
    async def answer(event: Asked, ctx: Context) -> Answered:
        return Answered(n=event.n)

    return agent


def seqs(files: Sequence[Path]) -> list[int]:
    return [stored.message.seq for path in files for stored in messages_of(path)]


def test_every_fact_that_will_be_forgotten_is_archived_once_however_often_it_is_begun(tmp_path: Path) -> None:
    async def story() -> list[int]:
        async with Bed(oracle()) as bed:
            log = bed.server.connect()
            for n in range(7):
                await bed.publish(Asked(n=n), key=f"k{n}")
                await bed.publish(Kept(), key="kept")
                await bed.quiet()
                if n % 3 == 0:
                    await archive([log], tmp_path, clock=bed.server.clock, file_facts=2)
                    (tmp_path / ".hocket-0-9999999999999999-9999999999999999.jsonl.part").write_text("interrupted")
            await archive([log], tmp_path, clock=bed.server.clock)
            again = await archive([log], tmp_path, clock=bed.server.clock)
            assert (again.facts, again.files) == (0, ())
            filters = [bed.names.events_of_type(each.event_type) for each in (Asked, Answered)]
            return [int(message.seq) for message in bed.server.since(1, filters, 1 << 30)]

    wanted = run_virtual(story())

    files = copies_in(tmp_path)
    assert len(wanted) == 14
    assert seqs(files) == wanted
    assert all(check(path).sound for path in files)
    assert archived_up_to(tmp_path, "hocket", 0) >= wanted[-1]


def test_a_cause_that_is_forgotten_is_missing_unless_it_is_archived(tmp_path: Path) -> None:
    async def story() -> tuple[list[tuple[str | None, str]], list[tuple[str | None, str]]]:
        clock = LoopClock()
        async with Bed(oracle(), server=MemoryServer(clock=clock)) as bed:
            log = bed.server.connect()
            await bed.publish(Asked(n=1), key="ada", event_id="q-1")
            await bed.quiet()
            assert await without_cause([log]) == []
            await archive([log], tmp_path, clock=clock)
            clock.advance(2 * DAY.total_seconds())
            lost = await without_cause([log])
            found = await without_cause([log], archived_ids(copies_in(tmp_path)))
            return [(m.key, m.id) for m in lost], [(m.key, m.id) for m in found]

    assert run_virtual(story()) == ([("ada", "q-1")], [])


def test_what_a_copy_holds_and_the_log_has_lost_or_replaced_is_named_and_what_has_run_out_is_not(
    tmp_path: Path,
) -> None:
    async def story() -> list[tuple[str | None, str, str]]:
        clock = LoopClock()
        log = MemoryServer(clock=clock).connect()
        subjects = [f"hocket.0.evt.a=2Ev1.{key}.shop.{key}.0" for key in ("stays", "goes", "changes", "ages")]
        for subject in subjects[:3]:
            await log.append([Write(subject, b"{}")])
        await log.append([Write(subjects[3], b"{}", ttl=timedelta(seconds=60))])
        await back_up([log], tmp_path / "copy.jsonl", clock=clock)
        assert await not_in_log([log], tmp_path / "copy.jsonl") == []
        await log.append([Write(subjects[1], b"", ttl=timedelta(seconds=1))])
        await log.append([Write(subjects[2], b"[]")])
        clock.advance(120)
        return [(m.key, m.id, m.what) for m in await not_in_log([log], tmp_path / "copy.jsonl")]

    assert run_virtual(story()) == [("changes", "changes.0", "replaced"), ("goes", "goes.0", "gone")]


async def test_two_do_not_archive_into_one_folder_at_a_time(tmp_path: Path) -> None:
    log = MemoryServer().connect()
    refusals = []

    class Slow(MemoryLog):
        async def end(self) -> Seq:
            with pytest.raises(FileUnwritable) as refused:
                await archive([log], tmp_path)
            refusals.append(str(refused.value))
            return Seq(0)

    await archive([Slow(log.server, log.faults)], tmp_path)

    assert refusals == [f"{tmp_path}: somebody else archives into it"]
