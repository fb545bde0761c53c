"""The client's side of NATS's protocol, byte by byte, against a transport that only takes notes."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hocket.log.connection import LINE_BYTES_MAX, PING_TICKS, PINGS_OPEN_MAX, Connection, Received, encoded
from hocket.log.wire import Frame, headers_of


class Wire(asyncio.WriteTransport):
    """The other end: keeps what was written, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


class Client:
    """A connection, and what it has heard."""

    def __init__(self) -> None:
        self.heard: list[Received] = []
        self.heeded: list[str] = []
        self.lost: list[str] = []
        self.wire = Wire()
        self.connection = Connection(self.heeded.append, self.lost.append, payload_max=1000)
        self.connection.connection_made(self.wire)
        self.number = self.connection.subscribe("a.*", self.heard.append)


def delivered(message: Received, number: bytes) -> bytes:
    """A message as a server sends it."""
    words = [message.subject.encode(), number, *([message.reply.encode()] if message.reply else [])]
    sizes = [len(message.head), len(message.head) + len(message.data)] if message.head else [len(message.data)]
    line = b" ".join([b"HMSG" if message.head else b"MSG", *words, *(b"%d" % size for size in sizes)])
    return line + b"\r\n" + message.head + message.data + b"\r\n"


names = some.text(some.sampled_from("abcXYZ019_-$"), min_size=1, max_size=8)
heads = some.sampled_from([b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"])
messages = some.builds(Received, some.builds("a.{}".format, names), some.just("") | names, some.binary(), heads)


@given(some.lists(messages), some.lists(some.integers(0, 4000)))
def test_what_comes_in_pieces_is_the_same_as_what_comes_at_once(sent: list[Received], cuts: list[int]) -> None:
    client = Client()
    stream = b"+OK\r\n".join(delivered(message, client.number) for message in sent)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})

    for start, stop in pairwise(places):
        client.connection.data_received(stream[start:stop])

    assert client.heard == sent
    assert client.lost == []


def test_a_stream_may_be_cut_at_any_byte() -> None:
    head = b"NATS/1.0\r\nA: b\r\n\r\n"
    sent = [Received("a.b", "", b"\r\n", b""), Received("a.c", "re", b"x", head), Received("a.d", "", b"", b"")]
    stream = b"".join(delivered(message, b"1") for message in sent)

    for cut in range(len(stream)):
        client = Client()
        client.connection.data_received(stream[:cut])
        client.connection.data_received(stream[cut:])
        assert (client.heard, client.lost) == (sent, []), f"cut at {cut}"


@given(some.binary(max_size=200))
def test_no_bytes_do_more_than_end_the_connection(noise: bytes) -> None:
    client = Client()

    client.connection.data_received(b"MSG a.b %b 0\r\n\r\n" % client.number + noise)

    assert client.heard[0] == Received("a.b", "", b"", b"")
    assert client.connection.up is not bool(client.lost)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG a.b 1 -5\r\n",
        b"MSG a.b 1 99999999999\r\n",
        b"HMSG a.b 1 20 10\r\n",
        b"MSG\r\n",
        b"INFO not json\r\n",
        b"x" * (LINE_BYTES_MAX + 1),
    ],
)
def test_what_is_no_protocol_ends_the_connection(nonsense: bytes) -> None:
    client = Client()

    client.connection.data_received(nonsense)

    assert not client.connection.up
    assert len(client.lost) == 1


def test_a_ping_is_answered_and_the_servers_limit_is_learned() -> None:
    client = Client()

    client.connection.data_received(b'PING\r\nINFO {"max_payload":77}\r\n')

    assert client.wire.written.endswith(b"PONG\r\n")
    assert client.connection.payload_max == 77


def test_what_is_not_allowed_is_heeded_and_any_other_error_is_the_end() -> None:
    client = Client()

    client.connection.data_received(b"-ERR 'Permissions Violation for Publish to \"b\"'\r\n")
    client.connection.data_received(b"-ERR 'Authorization Violation'\r\n")

    assert client.heeded == ['Permissions Violation for Publish to "b"']
    assert client.lost == ["Authorization Violation"]


def test_a_server_that_answers_no_ping_is_given_up() -> None:
    client = Client()

    for _ in range(2):
        for _ in range(PING_TICKS * PINGS_OPEN_MAX):
            client.connection.tick()
        assert client.connection.up
        client.connection.data_received(b"PONG\r\n")
    for _ in range(PING_TICKS * (PINGS_OPEN_MAX + 1)):
        client.connection.tick()

    assert client.lost == ["the server is silent"]


def test_after_unsubscribing_nothing_is_received() -> None:
    client = Client()

    client.connection.unsubscribe(client.number)
    client.connection.data_received(delivered(Received("a.b", "", b"x", b""), client.number))

    assert client.heard == []
    assert client.wire.written == b"SUB a.* 1\r\nUNSUB 1\r\n"


def test_messages_leave_in_one_piece_and_only_the_last_one_is_answered() -> None:
    head = b"NATS/1.0\r\nA: b\r\n\r\n"

    assert encoded([Frame("a", b"12"), Frame("b", b"3", head)], "_INBOX.1") == (
        b"PUB a 2\r\n12\r\n" + b"HPUB b _INBOX.1 %d %d\r\n" % (len(head), len(head) + 1) + head + b"3\r\n"
    )


def test_the_servers_own_words_are_read_as_headers() -> None:
    head = b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Messages: 7\r\n\r\n"

    assert headers_of(head) == {
        "Status": "409",
        "Description": "Message Size Exceeds MaxBytes",
        "Nats-Pending-Messages": "7",
    }
