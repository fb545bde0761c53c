"""Who is at work: what is heard and what the log knows, put together."""

from hocket.engine.owner import Claim
from hocket.host.failures import Failure, open_failures
from hocket.host.health import Card, blocked_by, card_of
from hocket.host.roster import Entry, Roster, entries_of, to_json
from hocket.observe.atwork import AtWork, at_work
from hocket.observe.holds import Held
from hocket_schemas.services import ServiceFailed, ServiceRestored

CLAIMED = "2026-01-01T00:00:00.000Z"
OWNER = Card("ada", 0, "i-ada", "owner", 7, "1", "h", 42, ("a.asked.v1",), (), 3, 9, 10.0, started="2025")
KEPT = Entry("ada", "i-ada", ("ada",), "running", "2026", 42, 2, 90, 100, "", host="h", supervisor=1, heard_s=10.0)
CLAIMS = {("ada", 0): (7, Claim("i-ada", CLAIMED))}


def failed(service: str = "ada", host: str = "h") -> ServiceFailed:
    return ServiceFailed(
        service=service,
        agents=[service],
        host=host,
        reason="ended",
        code=2,
        restarts=5,
        window_s=60,
        printed=["ZeroDivisionError"],
        at=CLAIMED,
    )


def restored(host: str = "h") -> ServiceRestored:
    return ServiceRestored(service="ada", agents=["ada"], host=host, failure="f-1", at=CLAIMED)


def states(lines: list[AtWork]) -> list[tuple[str, int | None, str]]:
    return [(line.agent, line.shard, line.state) for line in lines]


def test_an_owner_is_listed_with_what_its_supervisor_knows_of_it() -> None:
    [line] = at_work([OWNER], [KEPT], [], CLAIMS, 11.5)

    assert (line.state, line.service, line.restarts, line.memory_max_bytes) == ("owner", "ada", 2, 100)
    assert (line.since, line.heard_s_ago, line.lag, line.why, line.next) == (CLAIMED, 1.5, 3, "", "")


def test_an_instance_without_a_supervisor_is_listed_all_the_same() -> None:
    [line] = at_work([OWNER], [], [], {}, 10.0)

    assert (line.state, line.restarts, line.since) == ("owner", None, "2025")


def test_a_process_that_has_ended_is_heard_no_more_where_its_supervisor_knows_better() -> None:
    waiting = Entry("ada", "i-ada", ("ada",), "restarting", CLAIMED, None, 2, None, None, "ended with SIGKILL", "h")

    [line] = at_work([OWNER], [waiting], [], CLAIMS, 11.0)

    assert (line.state, line.role, line.why, line.next) == ("restarting", "restarting", "ended with SIGKILL", "")


def test_a_failed_service_is_listed_by_agent_with_the_command_to_go_on_with() -> None:
    given_up = Entry("pair", "i-pair", ("ada", "bob"), "failed", CLAIMED, None, 5, None, None, "exit code 2", "h")

    lines = at_work([], [given_up], [], CLAIMS, 11.0)

    assert states(lines) == [("ada", None, "failed"), ("bob", None, "failed")]
    assert {line.next for line in lines} == {"hocket restart pair"}


def test_a_process_that_stands_still_is_blocked_whether_it_is_heard_or_not() -> None:
    blocked = Entry("ada", "i-ada", ("ada",), "blocked", CLAIMED, 42, 0, None, None, "greet holds it up", "h")

    heard, silent = at_work([OWNER], [blocked], [], CLAIMS, 11.0), at_work([], [blocked], [], CLAIMS, 11.0)

    assert [(line.state, line.role, line.why) for line in heard] == [("blocked", "owner", "greet holds it up")]
    assert [(line.state, line.next) for line in silent] == [("blocked", "hocket restart ada")]


def test_what_the_log_knows_as_failed_is_listed_when_no_supervisor_is_heard() -> None:
    failure = Failure("f-1", failed())

    alone = at_work([], [], [failure], CLAIMS, 11.0)
    elsewhere = at_work([OWNER], [], [failure], CLAIMS, 11.0)
    kept = at_work([OWNER], [KEPT], [failure], CLAIMS, 11.0)

    assert states(alone) == [("ada", None, "failed")]
    assert alone[0].why == "6 ends within 60 s, at last ended with exit code 2"
    assert states(elsewhere) == states(kept) == [("ada", 0, "owner")]


def test_an_agent_that_only_the_log_knows_is_silent() -> None:
    lines = at_work([], [], [], CLAIMS, 11.0)

    assert states(lines) == [("ada", 0, "silent")]


def test_of_a_service_on_a_host_the_newest_fact_counts() -> None:
    left = open_failures(
        [("f-1", failed()), ("f-2", failed(host="other")), ("r-1", restored()), ("f-3", failed(service="bob"))]
    )

    assert [failure.id for failure in left] == ["f-2", "f-3"]


def test_a_roster_comes_back_as_it_was_told_and_ages() -> None:
    roster = Roster()

    heard = entries_of(to_json("h", 1, CLAIMED, [KEPT]), 10.0)
    assert heard is not None
    roster.hear(heard)

    assert roster.table(11.0) == [KEPT]
    assert roster.table(60.0) == []


def test_what_is_no_roster_is_not_heard() -> None:
    bodies = [b"", b"[]", b"{}", b'{"host":"h","pid":1,"services":[{}]}', b'{"host":"h","pid":1,"services":3}', b"\xff"]

    assert [entries_of(body, 0.0) for body in bodies] == [None] * len(bodies)


def test_a_card_tells_who_blocked_the_loop() -> None:
    block = b'{"agent":"ada","handler":"greet","id":"e-1","where":"agent.py:7 in greet","for_s":5.25}'
    body = b'{"agent":"ada","shard":0,"instance":"i","role":"owner","token":1,"blocks":2,"blocked":' + block + b"}"

    card = card_of(body, 0.0)

    assert card is not None
    assert (card.blocks, card.blocked) == (2, "greet of ada on event e-1, at agent.py:7 in greet, 5.25 s")
    assert blocked_by(None) == ""


def test_a_paused_agent_is_shown_as_such_with_who_and_why_also_when_nobody_is_heard_of_it() -> None:
    paused = {("ada", 0): Held("agent", "ada", None, 0, "bob", "it buys too much", CLAIMED)}

    [heard] = at_work([OWNER], [], [], CLAIMS, 11.0, paused=paused)
    [silent] = at_work([], [], [], CLAIMS, 11.0, paused=paused)

    assert (heard.state, heard.role, heard.why) == ("paused", "owner", "by bob because it buys too much")
    assert (silent.state, silent.next) == ("paused", "hocket resume ada")
