"""What an append promises: all or nothing, next to each other, judged against the log before it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from tests.contract.worlds import World, scanned, until

from hocket.errors import AppendTooLarge, Conflict, StorageFull, UsageError
from hocket.log.base import APPEND_MESSAGES_MAX, Expect, Write


def writes(world: World, *tails: str, data: bytes = b"data") -> list[Write]:
    return [Write(world.subject(tail), data) for tail in tails]


async def tails(world: World) -> list[str]:
    found = await scanned(world.log, [world.subject(">")])
    return [message.subject.removeprefix(world.subject("")) for message in found]


async def test_a_new_log_is_empty(world: World) -> None:
    end = await world.log.end()

    assert end == 0
    assert await tails(world) == []


async def test_an_append_returns_the_sequence_of_its_last_write(world: World) -> None:
    first = await world.log.append(writes(world, "a"))
    second = await world.log.append(writes(world, "b", "c", "d"))

    assert (first, second, await world.log.end()) == (1, 4, 4)
    assert [m.seq for m in await scanned(world.log, [world.subject(">")])] == [1, 2, 3, 4]


async def test_writes_are_read_back_as_they_were(world: World) -> None:
    write = Write(world.subject("a.=C3=A9"), bytes(range(256)), headers={"Content-Type": "x/y; z=ü"})

    await world.log.append([write, *writes(world, "b", data=b"")])

    first, second = await scanned(world.log, [world.subject(">")])
    assert (first.subject, first.data, dict(first.headers)) == (write.subject, write.data, write.headers)
    assert (second.data, dict(second.headers)) == (b"", {})
    assert await world.log.last(write.subject) == first._replace(pending=0)


async def test_appends_at_the_same_time_do_not_mix(world: World) -> None:
    async def append(name: str) -> list[tuple[str, int]]:
        names = [f"{name}.{i}" for i in range(20)]
        last = await world.log.append(writes(world, *names))
        return [(world.subject(tail), last - 19 + i) for i, tail in enumerate(names)]

    promised = await asyncio.gather(*(append(f"w{i}") for i in range(8)))

    found = [(message.subject, message.seq) for message in await scanned(world.log, [world.subject(">")])]
    assert sorted(found) == sorted(pair for pairs in promised for pair in pairs)


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_one_failed_expectation_leaves_nothing(world: World, position: int) -> None:
    await world.log.append(writes(world, "own"))
    group = writes(world, "a", "b", "c")
    group[position] = group[position]._replace(expect=Expect(world.subject("own"), 77))

    with pytest.raises(Conflict):
        await world.log.append(group)

    assert await tails(world) == ["own"]
    assert await world.log.end() == 1


async def test_a_single_write_is_fenced_by_another_subject(world: World) -> None:
    token = await world.log.append(writes(world, "own"))
    fenced = Write(world.subject("a"), b"1", Expect(world.subject("own"), token))
    await world.log.append([fenced])
    await world.log.append(writes(world, "own", data=b"claimed by another"))

    with pytest.raises(Conflict):
        await world.log.append([fenced._replace(data=b"2")])

    newest = await world.log.last(fenced.subject)
    assert newest
    assert newest.data == b"1"


async def test_a_batch_is_fenced_by_another_subject(world: World) -> None:
    token = await world.log.append(writes(world, "own"))
    fence = Expect(world.subject("own"), token)
    await world.log.append([*writes(world, "a"), Write(world.subject("cur"), b"1", fence)])
    await world.log.append(writes(world, "own", data=b"claimed by another"))

    with pytest.raises(Conflict):
        await world.log.append([*writes(world, "b"), Write(world.subject("cur"), b"2", fence)])

    assert await tails(world) == ["a", "cur", "own"]


async def test_a_subject_expected_to_be_new_is_written_once(world: World) -> None:
    once = Write(world.subject("evt.t.k.agent.cause.0"), b"1", Expect(world.subject("evt.t.k.agent.cause.0"), 0))
    await world.log.append([once])

    with pytest.raises(Conflict):
        await world.log.append([once])
    with pytest.raises(Conflict):
        await world.log.append([*writes(world, "other"), once])

    assert await world.log.end() == 1


async def test_an_expectation_may_cover_all_subjects_of_a_cause(world: World) -> None:
    def transition(cause: str, *types: str) -> Sequence[Write]:
        group = writes(world, *(f"evt.{name}.k.agent.{cause}.{i}" for i, name in enumerate(types)))
        group[0] = group[0]._replace(expect=Expect(world.subject(f"evt.*.k.agent.{cause}.*"), 0))
        return group

    await world.log.append([*transition("c1", "x", "y"), *transition("c2", "x")])

    with pytest.raises(Conflict):
        await world.log.append([*transition("c3", "x"), *transition("c1", "z")])
    with pytest.raises(Conflict):
        await world.log.append(transition("c2", "z"))
    await world.log.append(transition("c3", "x"))
    assert await world.log.end() == 4


async def test_expectations_are_judged_against_the_log_before_the_append(world: World) -> None:
    seq = await world.log.append(writes(world, "act"))
    expected = Expect(world.subject("act"), seq)

    await world.log.append(
        [
            Write(world.subject("a"), b"", expected),
            Write(world.subject("act"), b"new", expected),
        ]
    )

    assert await tails(world) == ["a", "act"]


async def test_a_record_keeps_only_its_newest_message(world: World) -> None:
    for i in range(5):
        await world.log.append(writes(world, "cur", data=b"%d" % i))

    [found] = await scanned(world.log, [world.subject(">")])
    assert (found.seq, found.data) == (5, b"4")
    newest = await world.log.last(world.subject("cur"))
    assert newest
    assert newest.data == b"4"


async def test_a_message_is_forgotten_after_its_ttl(world: World) -> None:
    short = Write(world.subject("short"), b"", ttl=timedelta(seconds=1))
    long = Write(world.subject("long"), b"", ttl=timedelta(hours=1))
    await world.log.append([short, long])
    assert await tails(world) == ["short", "long"]

    await world.pass_time(2)

    async def forgotten() -> bool:
        return await world.log.last(short.subject) is None

    await until(forgotten)
    assert await tails(world) == ["long"]
    assert await world.log.end() == 2


async def test_overwriting_a_message_ends_its_ttl(world: World) -> None:
    brief = Write(world.subject("brief"), b"", ttl=timedelta(seconds=1))
    mortal = Write(world.subject("act"), b"old", ttl=timedelta(seconds=1))
    await world.log.append([mortal, brief])
    await world.log.append([mortal._replace(data=b"new", ttl=None)])

    await world.pass_time(2)

    async def forgotten() -> bool:
        return await world.log.last(brief.subject) is None

    await until(forgotten)
    newest = await world.log.last(mortal.subject)
    assert newest
    assert newest.data == b"new"


async def fill(world: World, data: bytes) -> int:
    """Append until the log is full; return how many went in."""
    for stored in range(1000):
        try:
            await world.log.append([Write(world.subject(f"a.{stored}"), data)])
        except StorageFull:
            return stored
    raise AssertionError("it takes everything")


async def test_a_full_log_refuses_and_keeps_what_it_has(small_world: World) -> None:
    log, big = small_world.log, bytes(10_000)
    await log.append([Write(small_world.subject("cur"), b"0")])
    stored = await fill(small_world, big)

    with pytest.raises(StorageFull):
        await log.append([Write(small_world.subject(f"b.{i}"), big) for i in range(3)])
    rewritten = await log.append([Write(small_world.subject("cur"), b"1"), Write(small_world.subject("a.0"), b"")])

    newest = await log.last(small_world.subject("cur"))
    assert newest
    assert (newest.data, rewritten) == (b"1", stored + 3)
    assert len(await scanned(log, [small_world.subject(">")])) == stored + 1


async def test_a_message_above_the_payload_limit_is_refused(world: World) -> None:
    big = Write(world.subject("big"), bytes((1 << 20) + 1))

    with pytest.raises(AppendTooLarge):
        await world.log.append([big])
    with pytest.raises(AppendTooLarge):
        await world.log.append([*writes(world, "a", "b"), big, *writes(world, "c")])

    assert await world.log.append(writes(world, "d", "e")) == 2
    assert await tails(world) == ["d", "e"]


async def test_an_append_takes_as_many_messages_as_the_limit_says(world: World) -> None:
    most = writes(world, *(f"a.{i}" for i in range(APPEND_MESSAGES_MAX)))

    last = await world.log.append(most)

    assert last == APPEND_MESSAGES_MAX
    for count in (0, APPEND_MESSAGES_MAX + 1):
        with pytest.raises(AppendTooLarge):
            await world.log.append([*most, *writes(world, "b")][:count])
    assert await world.log.end() == last


@pytest.mark.parametrize(
    "mistake",
    [
        Write("a b", b""),
        Write("a\r\nPUB x 0", b""),
        Write("*", b""),
        Write("a.>", b""),
        Write("a..b", b""),
        Write("", b""),
        Write("a" * 2000, b""),
        Write("a", b"", ttl=timedelta(milliseconds=1500)),
        Write("a", b"", ttl=timedelta(0)),
        Write("a", b"", headers={"Nats-Rollup": "all"}),
        Write("a", b"", headers={"a": "b\r\nc"}),
        Write("a", b"", headers={"": "b"}),
    ],
)
async def test_what_no_log_could_take_is_a_usage_error(world: World, mistake: Write) -> None:
    placed = mistake._replace(subject=world.subject(mistake.subject))

    with pytest.raises(UsageError):
        await world.log.append([*writes(world, "fine"), placed])

    assert await world.log.end() == 0


async def test_a_subject_of_another_shard_is_a_usage_error(world: World) -> None:
    elsewhere = world.subject("a").replace(".0.", ".1.")

    with pytest.raises(UsageError):
        await world.log.append([Write(elsewhere, b"")])


async def test_expecting_something_of_an_earlier_write_is_a_usage_error(world: World) -> None:
    expected = Expect(world.subject("a"), 0)

    with pytest.raises(UsageError):
        await world.log.append([*writes(world, "a"), Write(world.subject("b"), b"", expected)])

    assert await world.log.append([Write(world.subject("b"), b"", expected), *writes(world, "a")]) == 2
