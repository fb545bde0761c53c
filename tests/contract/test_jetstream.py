"""What only a real log can show: permissions, configurations, old servers, and connections that die oddly."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from tests.contract.worlds import ROOM, scanned, soon, surely, taken, until

from hocket.errors import (
    AppendTooLarge,
    ConsumerLost,
    OutcomeUnknown,
    PermissionDenied,
    ServerTooOld,
    StorageFull,
    TopologyMismatch,
    Unavailable,
)
from hocket.log import jetstream
from hocket.log.base import Expect, Write
from hocket.log.jetstream import JetStreamLog, connect
from hocket.log.jetstream_link import Link
from hocket.log.pull import Deliveries
from hocket.log.server import EmbeddedServer
from hocket.log.topology import stream_settings
from hocket.log.wire import Frame, frames


@pytest.fixture
async def log(nats_url: str, domain: str) -> AsyncIterator[JetStreamLog]:
    async with connect(nats_url, domain=domain, max_bytes=ROOM) as [log]:
        yield log


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(None) as server:
        yield server


async def api(log: JetStreamLog, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request to JetStream that no log would make."""
    frame = Frame(f"$JS.API.{verb}", orjson.dumps(body) if body else b"")
    answer: dict[str, Any] = orjson.loads(await log._link.ask([frame], soon()))
    return answer


async def test_a_domain_is_opened_again_as_it_was_made(nats_url: str, domain: str) -> None:
    async with connect(nats_url, domain=domain, shards=3, max_bytes=ROOM) as logs:
        await logs[2].append([Write(f"{domain}.2.a", b"x")])

    async with connect(nats_url, domain=domain) as logs:
        assert [log.shard for log in logs] == [0, 1, 2]
        assert await logs[2].end() == 1
        config = (await api(logs[0], f"STREAM.INFO.{logs[0].stream}"))["config"]
        assert config["max_bytes"] == ROOM


async def test_a_domain_that_does_not_exist_is_not_made_unasked(nats_url: str, domain: str) -> None:
    with pytest.raises(TopologyMismatch, match="does not exist"):
        async with connect(nats_url, domain=domain, create=False):
            pass


async def test_the_number_of_shards_never_changes(nats_url: str, domain: str) -> None:
    async with connect(nats_url, domain=domain, shards=2, max_bytes=ROOM):
        pass

    with pytest.raises(TopologyMismatch, match="shards is 2, wants 3"):
        async with connect(nats_url, domain=domain, shards=3):
            pass


async def test_more_room_is_made_in_place_and_less_is_refused(nats_url: str, domain: str) -> None:
    async with connect(nats_url, domain=domain, max_bytes=ROOM) as [log]:
        await log.append([Write(f"{domain}.0.a", b"x")])

    async with connect(nats_url, domain=domain, max_bytes=2 * ROOM) as [log]:
        assert await log.end() == 1
        assert (await api(log, f"STREAM.INFO.{log.stream}"))["config"]["max_bytes"] == 2 * ROOM
    with pytest.raises(TopologyMismatch, match="never made smaller"):
        async with connect(nats_url, domain=domain, max_bytes=ROOM):
            pass


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"allow_rollup_hdrs": True, "deny_purge": False}, "allow_rollup_hdrs is True, wants False"),
        ({"discard": "old"}, "discard is 'old', wants 'new'"),
        ({"storage": "memory"}, "storage is 'memory', wants 'file'"),
        ({"max_msgs_per_subject": -1}, "max_msgs_per_subject is -1, wants 1"),
        ({"metadata": {}}, "shards is 0, wants 1"),
    ],
)
async def test_a_stream_that_breaks_a_promise_is_refused(
    log: JetStreamLog, nats_url: str, domain: str, edit: dict[str, Any], named: str
) -> None:
    name = f"{domain}x"
    body = stream_settings(name, 0, max_bytes=ROOM).to_api() | edit
    assert "error" not in await api(log, f"STREAM.CREATE.HOCKET_{name}_0", body)

    with pytest.raises(TopologyMismatch) as caught:
        async with connect(nats_url, domain=name):
            pass

    assert named in str(caught.value)


async def test_several_processes_may_make_a_domain_at_once(nats_url: str, domain: str) -> None:
    async def make() -> int:
        async with connect(nats_url, domain=domain, shards=2, max_bytes=ROOM) as logs:
            return len(logs)

    made = await asyncio.gather(*(make() for _ in range(5)))

    assert made == [2] * 5


async def test_a_server_without_room_for_the_stream_says_so(domain: str) -> None:
    async with EmbeddedServer(None, max_bytes=1 << 20) as server:
        with pytest.raises(StorageFull):
            async with connect(server.url, domain=domain, max_bytes=1 << 30):
                pass


async def test_replicas_on_a_single_server_are_refused_at_once(nats_url: str, domain: str) -> None:
    with pytest.raises(Exception, match="replicas"):
        async with asyncio.timeout(5), connect(nats_url, domain=domain, replicas=3):
            pass


async def test_an_old_server_is_refused(nats_url: str, domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "SERVER_VERSION_MIN", (2, 999, 0))

    with pytest.raises(ServerTooOld, match=r"2\.15\.\d+ answers; the log needs 2\.999\.0"):
        async with connect(nats_url, domain=domain):
            pass


async def test_a_server_that_is_not_there_is_unavailable(domain: str) -> None:
    with pytest.raises(Unavailable, match=r"no connection to nats://127\.0\.0\.1:1: .*Errno"):
        async with connect("nats://user:secret@127.0.0.1:1", domain=domain, timeout_s=0.5):
            pass


async def test_an_error_of_the_block_passes_as_it_is(nats_url: str, domain: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect(nats_url, domain=domain, max_bytes=ROOM):
            raise ZeroDivisionError


@pytest.mark.parametrize("padding", range(-40, 41, 8))
async def test_the_payload_limit_counts_headers(log: JetStreamLog, padding: int) -> None:
    subject = f"{log.domain}.0.a"
    bare = Write(subject, b"", Expect(f"{log.domain}.0.own", 0), timedelta(hours=1), {"Content-Type": "x"})
    [frame] = frames([bare], "")
    data = bytes((1 << 20) - frame.size + padding)
    write = Write(subject, data, bare.expect, bare.ttl, bare.headers)

    if padding > 0:
        with pytest.raises(AppendTooLarge):
            await log.append([write])
    else:
        await log.append([write])

    assert await log.append([Write(f"{log.domain}.0.b", b"")]) == (1 if padding > 0 else 2)


async def test_headers_above_the_limit_are_refused_and_the_connection_works_on(log: JetStreamLog) -> None:
    with pytest.raises(AppendTooLarge):
        await log.append([Write(f"{log.domain}.0.a", b"", headers={"a": "b" * 70_000})])

    assert await log.append([Write(f"{log.domain}.0.a", b"")]) == 1


async def test_many_fenced_appends_at_once_all_get_in(log: JetStreamLog) -> None:
    own = f"{log.domain}.0.own"
    token = await log.append([Write(own, b"")])

    async with asyncio.TaskGroup() as tasks:
        for i in range(60):
            group = [Write(f"{log.domain}.0.a.{i}.{j}", b"", Expect(own, token)) for j in range(3)]
            tasks.create_task(log.append(group, timeout_s=10))

    assert await log.end() == 181


ACL = """
authorization { users: [
  { user: root, password: p }
  { user: low, password: p, permissions: {
      publish: { allow: ["DOMAIN.0.a.>", "$JS.API.STREAM.INFO.>"] }
      subscribe: { allow: ["_INBOX.>"] } } }
  { user: deaf, password: p, permissions: { publish: ">", subscribe: { allow: ["nothing"] } } }
] }
"""


@pytest.fixture
async def guarded(domain: str) -> AsyncIterator[EmbeddedServer]:
    """A server with a user `low` that may publish below `DOMAIN.0.a`, and a domain already made."""
    async with EmbeddedServer(None, extra=ACL.replace("DOMAIN", domain)) as server:
        async with connect(as_user(server, "root"), domain=domain, max_bytes=ROOM):
            pass
        yield server


def as_user(server: EmbeddedServer, user: str) -> str:
    return server.url.replace("//", f"//{user}:p@")


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_forbidden_subject_is_named_at_once(guarded: EmbeddedServer, domain: str, position: int) -> None:
    async with connect(as_user(guarded, "low"), domain=domain, create=False) as [log]:
        group = [Write(f"{domain}.0.a.{i}", b"") for i in range(3)]
        group[position] = Write(f"{domain}.0.Foreign", b"")

        for attempt in (group, [group[position]]):
            began_s = time.monotonic()
            with pytest.raises(PermissionDenied) as caught:
                await log.append(attempt)
            assert time.monotonic() - began_s < 0.2
            assert caught.value.subject == f"{domain}.0.Foreign"

        assert await log.append([Write(f"{domain}.0.a.x", b""), Write(f"{domain}.0.a.y", b"")]) == 2


async def test_a_forbidden_read_is_named_at_once(guarded: EmbeddedServer, domain: str) -> None:
    async with connect(as_user(guarded, "low"), domain=domain, create=False) as [log]:
        with pytest.raises(PermissionDenied, match=r"MSG\.GET"):
            await log.last(f"{domain}.0.a.x")
        with pytest.raises(PermissionDenied, match="CONSUMER"):
            async with log.consume("reader", [f"{domain}.0.a.>"], start=1):
                pass
        with pytest.raises(PermissionDenied, match="hb"):
            async with log.listen(f"{domain}.hb.>"):
                pass


async def test_a_client_that_may_not_hear_answers_is_told_why(guarded: EmbeddedServer, domain: str) -> None:
    with pytest.raises(Unavailable, match="not allowed to subscribe"):
        async with connect(as_user(guarded, "deaf"), domain=domain, timeout_s=1):
            pass


async def test_a_wrong_password_is_named(guarded: EmbeddedServer, domain: str) -> None:
    with pytest.raises(Unavailable, match=r"(?i)authorization violation") as caught:
        async with connect(guarded.url.replace("//", "//low:wrong@"), domain=domain, timeout_s=1):
            pass

    assert "wrong" not in str(caught.value)


async def test_a_connection_that_the_server_closes_is_replaced(log: JetStreamLog) -> None:
    before = log._link._session
    assert before

    before.connection.subscribe("not a subject", lambda message: None)

    assert await surely(log, Write(f"{log.domain}.0.a", b"", Expect(f"{log.domain}.0.a", 0))) == 1
    assert log._link._session is not before


async def test_a_connection_that_brings_nonsense_is_replaced(log: JetStreamLog) -> None:
    before = log._link._session
    assert before

    before.connection.data_received(b"HTTP/1.1 400 Bad Request\r\n")

    assert not before.connection.up
    assert await log.append([Write(f"{log.domain}.0.a", b"")]) == 1
    assert log._link._session is not before


async def test_a_paused_server_is_noticed_and_found_again(server: EmbeddedServer, domain: str) -> None:
    async with connect(server.url, domain=domain) as [log]:
        await log.append([Write(f"{domain}.0.a", b"")])
        async with log.consume("reader", [f"{domain}.0.>"], start=1) as consumption:
            await taken(consumption, 1)
            server.pause()
            began_s = time.monotonic()
            with pytest.raises(ConsumerLost, match="silent"):
                async with asyncio.timeout(10):
                    await consumption.take(1)
            assert time.monotonic() - began_s < 5
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await log.append([Write(f"{domain}.0.b", b"")], timeout_s=8)

        server.resume()

        async with asyncio.timeout(10):
            await surely(log, Write(f"{domain}.0.c", b"", Expect(f"{domain}.0.c", 0)))
        assert {m.subject for m in await scanned(log, [f"{domain}.0.>"])} >= {f"{domain}.0.a", f"{domain}.0.c"}


async def test_a_paused_reader_does_not_swallow_its_successors_deliveries(
    log: JetStreamLog, nats_url: str, domain: str
) -> None:
    # The first reader does nothing once it is there, as a paused process would; its pulls stay open.
    async with (
        connect(nats_url, domain=domain) as [other],
        log.consume("reader", [f"{domain}.0.>"], start=1),
        other.consume("reader", [f"{domain}.0.>"], start=1) as second,
    ):
        await other.append([Write(f"{domain}.0.a.{i}", b"") for i in range(100)])
        got = await taken(second, 100)

    assert [m.seq for m in got] == list(range(1, 101))


@pytest.mark.parametrize("more", [0, 2], ids=["by a heartbeat", "by the next delivery"])
async def test_a_delivery_that_went_elsewhere_is_noticed(
    log: JetStreamLog, nats_url: str, domain: str, more: int
) -> None:
    thief = Deliveries(log.stream, "reader", acks=False)
    async with (
        connect(nats_url, domain=domain) as [other],
        log.consume("reader", [f"{domain}.0.>"], start=1) as mine,
        other._link.channel(thief, soon(), speaks="") as channel,
    ):
        channel.send(thief.request, b"1", reply=True)
        await other.end()  # its answer shows that the pull before it has arrived
        await log.append([Write(f"{domain}.0.a.{i}", b"") for i in range(2 + more)])

        async with asyncio.timeout(5):
            with pytest.raises(ConsumerLost, match="came"):
                await taken(mine, 2 + more)


async def test_connections_that_end_leave_nothing_behind(server: EmbeddedServer, domain: str) -> None:
    async with connect(server.url, domain=domain) as [log], log.listen(f"{domain}.hb") as heard:
        await log.end()
        before = len(asyncio.all_tasks())
        for i in range(6):
            async with log.consume("reader", [f"{domain}.0.>"], start=1):
                await server.restart()
                await surely(log, Write(f"{domain}.0.a.{i}", b"", Expect(f"{domain}.0.a.{i}", 0)))

        async def quiet() -> bool:
            return len(asyncio.all_tasks()) <= before

        await until(quiet)
        await log.tell(f"{domain}.hb", b"x")
        async with asyncio.timeout(5):
            assert (await anext(heard)).data == b"x"


async def test_closing_does_not_wait_for_a_paused_server(server: EmbeddedServer, domain: str) -> None:
    async with connect(server.url, domain=domain) as [log]:
        await log.append([Write(f"{domain}.0.a", b"")])
        server.pause()
        with pytest.raises(Unavailable, match="does not answer"):
            await log.append([Write(f"{domain}.0.b.{i}", bytes(900_000)) for i in range(20)], timeout_s=0.2)
        began_s = time.monotonic()

    assert time.monotonic() - began_s < 3
    server.resume()


async def test_the_acknowledged_floor_shows_on_the_server(log: JetStreamLog) -> None:
    await log.append([Write(f"{log.domain}.0.a.{i}", b"") for i in range(10)])
    async with log.consume("reader", [f"{log.domain}.0.>"], start=1) as consumption:
        for message in await taken(consumption, 7):
            await consumption.ack(message.seq)

        async def shown() -> bool:
            info = await api(log, f"CONSUMER.INFO.{log.stream}.reader")
            return bool(info["ack_floor"]["stream_seq"] == 7)

        await until(shown)


async def test_deliveries_are_read_from_servers_that_name_the_account_in_acknowledgements(domain: str) -> None:
    async with (
        EmbeddedServer(None, extra="feature_flags { js_ack_fc_v2: true }") as server,
        connect(server.url, domain=domain) as [log],
    ):
        await log.append([Write(f"{domain}.0.a.{i}", b"") for i in range(3)])
        async with log.consume("reader", [f"{domain}.0.>"], start=2) as consumption:
            got = await taken(consumption, 2)
            await consumption.ack(got[0].seq)

            async def shown() -> bool:
                info = await api(log, f"CONSUMER.INFO.{log.stream}.reader")
                return bool(info["ack_floor"]["stream_seq"] == 2)

            await until(shown)

    assert [m.seq for m in got] == [2, 3]


async def test_scans_leave_no_consumers_behind(log: JetStreamLog) -> None:
    await log.append([Write(f"{log.domain}.0.a.{i}", b"") for i in range(10)])
    await scanned(log, [f"{log.domain}.0.>"])

    async def gone() -> bool:
        info = await api(log, f"STREAM.INFO.{log.stream}")
        return bool(info["state"]["consumer_count"] == 0)

    await until(gone)


@pytest.mark.parametrize("there", [True, False])
async def test_a_connection_can_be_closed_at_any_moment_of_its_making(nats_url: str, there: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # a port on which nobody listens
        url = nats_url if there else f"nats://127.0.0.1:{silent.getsockname()[1]}"

        for steps in range(40):
            async with asyncio.timeout(5), Link(url, name="closed", inbox_prefix="_INBOX"):
                for _ in range(steps):
                    await asyncio.sleep(0)
