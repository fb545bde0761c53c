"""Streams and consumers as values: what is asked for, what is found, and what follows from the difference."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hocket.errors import UsageError
from hocket.log.topology import (
    ConsumerSettings,
    Create,
    Difference,
    Refuse,
    StreamSettings,
    Update,
    overlaid,
    plan,
    stream_settings,
)

WANTED = stream_settings("trips", 1, shards=4, max_bytes=1000, replicas=3)


def reported(settings: StreamSettings) -> dict[str, Any]:
    """A configuration as a server reports it: what is off is left out, and what it adds itself is there."""
    body = {name: value for name, value in settings.to_api().items() if value not in (False, 0)}
    metadata = {**body["metadata"], "_nats.ver": "2.15.1"}
    return body | {"metadata": metadata, "duplicate_window": 120_000_000_000, "compression": "none"}


def test_a_stream_is_named_after_its_domain_and_shard() -> None:
    assert WANTED.name == "HOCKET_trips_1"
    assert WANTED.subjects == ("trips.1.>",)


def test_a_stream_keeps_the_promises_of_the_log() -> None:
    body = WANTED.to_api()

    promised = {
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_atomic": True,
        "allow_msg_ttl": True,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": True,
        "allow_rollup_hdrs": False,
        "allow_msg_schedules": False,
        "metadata": {"hocket.shards": "4", "hocket.format": "2"},
    }
    assert promised.items() <= body.items()
    assert "mirror" not in body
    assert "sources" not in body


def test_what_the_server_reports_is_read_back_as_it_was_asked_for() -> None:
    assert StreamSettings.from_api(reported(WANTED)) == WANTED


@pytest.mark.parametrize("domain", ["", "a.b", "a b", "a*", ">", "ü", "a" * 65, "a\n"])
def test_a_domain_that_no_subject_carries_is_refused(domain: str) -> None:
    with pytest.raises(UsageError):
        stream_settings(domain, 0)


def test_what_is_not_asked_for_stays_as_it_is() -> None:
    found = replace(WANTED, max_bytes=77, num_replicas=5)

    assert stream_settings("trips", 1, shards=4, like=found) == found
    assert plan(found, stream_settings("trips", 1, shards=4, like=found)) == []


def test_a_missing_stream_is_created() -> None:
    assert plan(None, WANTED) == [Create(WANTED)]


def test_room_and_replicas_are_raised_in_place() -> None:
    found = replace(WANTED, max_bytes=500, num_replicas=1)

    expected = (Difference("max_bytes", 500, 1000), Difference("num_replicas", 1, 3))
    assert plan(found, WANTED) == [Update(WANTED, expected)]


@pytest.mark.parametrize(
    "found",
    [
        replace(WANTED, retention="workqueue"),
        replace(WANTED, storage="memory"),
        replace(WANTED, discard="old"),
        replace(WANTED, max_msgs_per_subject=-1),
        replace(WANTED, max_age=10**12),
        replace(WANTED, allow_rollup_hdrs=True),
        replace(WANTED, allow_msg_schedules=True),
        replace(WANTED, allow_atomic=False),
        replace(WANTED, deny_delete=False),
        replace(WANTED, deny_purge=False),
        replace(WANTED, subjects=("trips.>",)),
        replace(WANTED, shards=2),
        replace(WANTED, format="1"),
        replace(WANTED, foreign=("sources",)),
        replace(WANTED, max_bytes=-1),
        replace(WANTED, max_bytes=2000),
        replace(WANTED, num_replicas=5),
    ],
)
def test_whatever_breaks_a_promise_is_refused_and_named(found: StreamSettings) -> None:
    [change] = plan(replace(found, max_bytes=min(found.max_bytes, 2000)), WANTED)

    assert isinstance(change, Refuse)
    [difference] = change.differences
    assert str(difference) in str(change)
    assert change.name in str(change)


def test_a_refusal_is_not_mixed_with_what_could_be_mended() -> None:
    found = replace(WANTED, max_bytes=500, discard="old")

    [change] = plan(found, WANTED)

    assert isinstance(change, Refuse)
    assert [d.field for d in change.differences] == ["discard"]


def test_features_that_bring_messages_past_the_protocol_are_seen() -> None:
    config = reported(WANTED) | {"mirror": {"name": "X"}, "republish": {"src": ">"}, "sources": []}

    assert StreamSettings.from_api(config).foreign == ("mirror", "republish")


def test_an_update_keeps_what_it_does_not_know() -> None:
    config = reported(replace(WANTED, max_bytes=500)) | {"placement": {"tags": ["ssd"]}, "future": 1}
    config["metadata"]["team"] = "blue"

    body = overlaid(config, WANTED)

    assert body["max_bytes"] == 1000
    assert (body["placement"], body["future"]) == ({"tags": ["ssd"]}, 1)
    assert body["metadata"] == {"hocket.shards": "4", "hocket.format": "2", "team": "blue"}


def test_a_durable_consumer_acknowledges_up_to_a_floor() -> None:
    body = ConsumerSettings("flights", ("trips.1.a", "trips.1.b"), 0).to_api()

    assert body == {
        "name": "flights",
        "durable_name": "flights",
        "filter_subjects": ["trips.1.a", "trips.1.b"],
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "ack_policy": "all",
        "ack_wait": 365 * 86_400 * 10**9,
        "max_ack_pending": 20_000,
    }


def test_a_passing_reader_is_cheap_and_forgotten() -> None:
    body = ConsumerSettings("scan", ("trips.1.>",), 7, durable=False, idle=timedelta(seconds=2)).to_api()

    assert "durable_name" not in body
    assert body["opt_start_seq"] == 7
    assert (body["ack_policy"], body["mem_storage"], body["num_replicas"]) == ("none", True, 1)
    assert body["inactive_threshold"] == 2 * 10**9
