"""What a stream consists of, how fast it grows, and when it is full."""

from hocket.log.base import Write
from hocket.log.jetstream import connect
from hocket.observe.doctor import Verdict, examine_server, judge
from hocket.observe.growth import DAY_S, Growth

GROWTH = Growth(1000, 100_000, 1_100_000, {"events": 800, "runs": 0}, 500, DAY_S)


def test_the_rate_is_that_of_the_last_day_and_the_room_lasts_for_so_long() -> None:
    assert (GROWTH.per_day, GROWTH.full_in_days) == (500, 20)
    assert str(GROWTH) == (
        "1,000 messages: 800 events, 200 others; 500 facts a day, full in 20 days if none is forgotten"
    )


def test_a_young_log_an_idle_one_and_one_without_a_limit_have_no_day_on_which_they_are_full() -> None:
    young = Growth(10, 1000, 1_000_000, {}, 10, 60.0)
    idle = Growth(10, 1000, 1_000_000, {}, 0, DAY_S)
    boundless = Growth(10, 1000, -1, {}, 10, DAY_S)

    assert [each.full_in_days for each in (young, idle, boundless)] == [None, None, None]


async def test_a_server_counts_what_is_in_a_stream_by_what_it_is(nats_url: str, domain: str) -> None:
    async with connect(nats_url, domain=domain, max_bytes=1 << 26) as [log]:
        tails = ["evt.k.shop.a.0.a.v1", "cmd.ada.k.a.0.a.v1", "act.ada.k", "run.ada.k.r", "cur.ada", "own.ada"]
        await log.append([Write(f"{domain}.0.{tail}", b"{}") for tail in tails])

        examined = await examine_server(nats_url, domain=domain)

    growth = examined.streams[0].growth
    assert growth is not None
    assert {kind: count for kind, count in growth.counts.items() if count} == {"events": 2, "states": 1, "runs": 1}
    assert (growth.messages, growth.added) == (6, 2)
    [told] = [each for each in judge(examined) if each.what == "contents of shard 0"]
    assert (told.verdict, told.detail) == (Verdict.OK, "6 messages: 2 events, 1 states, 1 runs, 2 others")
