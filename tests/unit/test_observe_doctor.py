"""What the doctor makes of what was found out, and that a real server tells it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hocket.host.failures import Failure
from hocket.host.health import Card
from hocket.log.jetstream import connect
from hocket.log.server import EmbeddedServer
from hocket.log.topology import stream_settings
from hocket.observe.doctor import (
    Diagnosis,
    Examined,
    Stream,
    Verdict,
    examine_server,
    judge,
    sync_in_config,
    sync_in_varz,
)
from hocket_schemas.services import ServiceFailed

WANTED = stream_settings("hocket", 0)
STREAM = Stream(0, WANTED, bytes=1000, leader="n1")
OWNER = Card("ada", 0, "i-1", "owner", 7, "1", "host", 1, (), (), 0, 0, 0.0)
FAILURE = Failure(
    "f-1",
    ServiceFailed(service="bob", agents=["bob"], host="h", reason="ended", restarts=5, window_s=60, at="2026-01-01"),
)
HEALTHY = Examined(
    url="nats://127.0.0.1:4222",
    version=(2, 15, 1),
    user="",
    may="",
    clock_off_s=0.002,
    sync="always",
    domain="hocket",
    streams=(STREAM,),
    cards=(OWNER,),
    owned=(("ada", 0),),
)


def worse_than_ok(diagnoses: Sequence[Diagnosis]) -> list[tuple[str, Verdict]]:
    return [(diagnosis.what, diagnosis.verdict) for diagnosis in diagnoses if diagnosis.verdict is not Verdict.OK]


def test_a_healthy_system_is_all_in_order() -> None:
    diagnoses = judge(HEALTHY)

    assert worse_than_ok(diagnoses) == []
    assert len(diagnoses) == 9


@pytest.mark.parametrize(
    ("ill", "diagnosis"),
    [
        (replace(HEALTHY, disk_free=500_000), ("disk", Verdict.FAILED)),
        (replace(HEALTHY, disk_free=500_000_000), ("disk", Verdict.WARNING)),
        (replace(HEALTHY, version=(2, 14, 9)), ("server", Verdict.FAILED)),
        (replace(HEALTHY, failures=(FAILURE,)), ("service bob", Verdict.FAILED)),
        (replace(HEALTHY, sync=None), ("fsync", Verdict.UNKNOWN)),
        (replace(HEALTHY, sync="2m"), ("fsync", Verdict.WARNING)),
        (replace(HEALTHY, clock_off_s=-1.5), ("clock", Verdict.WARNING)),
        (replace(HEALTHY, clock_off_s=None), ("clock", Verdict.UNKNOWN)),
        (replace(HEALTHY, user=None), ("access", Verdict.UNKNOWN)),
        (replace(HEALTHY, url="nats://10.0.0.1:4222,nats://127.0.0.1"), ("access", Verdict.WARNING)),
        (replace(HEALTHY, streams=(Stream(0, None),)), ("stream HOCKET_hocket_0", Verdict.FAILED)),
        (
            replace(HEALTHY, streams=(replace(STREAM, settings=replace(WANTED, allow_rollup_hdrs=True)),)),
            ("stream HOCKET_hocket_0", Verdict.FAILED),
        ),
        (replace(HEALTHY, streams=(replace(STREAM, bytes=900_000_000),)), ("room on shard 0", Verdict.WARNING)),
        (replace(HEALTHY, streams=(replace(STREAM, bytes=1_073_741_824),)), ("room on shard 0", Verdict.FAILED)),
        (replace(HEALTHY, streams=(replace(STREAM, leader=""),)), ("replicas of shard 0", Verdict.FAILED)),
        (
            replace(HEALTHY, streams=(replace(STREAM, replicas_behind=("n3",)),)),
            ("replicas of shard 0", Verdict.WARNING),
        ),
        (replace(HEALTHY, cards=()), ("agent ada on shard 0", Verdict.WARNING)),
        (replace(HEALTHY, cards=(replace(OWNER, role="standby"),)), ("agent ada on shard 0", Verdict.WARNING)),
        (replace(HEALTHY, cards=(replace(OWNER, lag=5000),)), ("agent ada on shard 0", Verdict.WARNING)),
        (replace(HEALTHY, cards=(), owned=()), ("agents", Verdict.WARNING)),
        (replace(HEALTHY, letters=2), ("dead letters", Verdict.WARNING)),
    ],
)
def test_each_illness_is_diagnosed_by_its_name(ill: Examined, diagnosis: tuple[str, Verdict]) -> None:
    assert worse_than_ok(judge(ill)) == [diagnosis]


def test_every_shard_is_looked_at() -> None:
    second = Stream(1, stream_settings("hocket", 1, shards=2), leader="n1")
    first = replace(STREAM, settings=stream_settings("hocket", 0, shards=2))

    whole = judge(replace(HEALTHY, streams=(first, second)))
    half = judge(replace(HEALTHY, streams=(first, Stream(1, None))))

    assert worse_than_ok(whole) == []
    assert worse_than_ok(half) == [("stream HOCKET_hocket_1", Verdict.FAILED)]


@pytest.mark.parametrize(
    ("text", "sync"),
    [
        ("jetstream { store_dir: x, sync_interval: always }", "always"),
        ('sync_interval: "2m"', "2m"),
        ("jetstream {}", None),
    ],
)
def test_a_configuration_file_says_when_the_disk_has_it(text: str, sync: str | None) -> None:
    assert sync_in_config(text) == sync


@pytest.mark.parametrize(
    ("config", "sync"),
    [
        ({"sync_interval": 120_000_000_000, "sync_always": True}, "always"),
        ({"sync_interval": 120_000_000_000}, "120s"),
        ({}, None),
    ],
)
def test_the_monitoring_page_says_when_the_disk_has_it(config: dict[str, object], sync: str | None) -> None:
    assert sync_in_varz({"jetstream": {"config": config}}) == sync


async def test_a_real_server_is_examined(nats_url: str, domain: str) -> None:
    async with connect(nats_url, domain=domain, shards=2):
        examined = await examine_server(nats_url, domain=domain)

    assert examined.version >= (2, 15, 1)
    assert examined.user == ""
    assert examined.clock_off_s is not None
    assert abs(examined.clock_off_s) < 1
    assert [stream.settings for stream in examined.streams] == [
        stream_settings(domain, shard, shards=2) for shard in (0, 1)
    ]
    assert worse_than_ok(judge(replace(examined, sync="always", cards=(OWNER,)))) == []


async def test_a_user_is_told_what_it_may(tmp_path: Path) -> None:
    rules = 'publish: {deny: ["secret.>"]}, subscribe: {allow: ["_INBOX.>"]}'
    users = f"authorization {{ users: [{{user: ada, password: x, permissions: {{{rules}}}}}] }}"
    async with EmbeddedServer(tmp_path, extra=users) as server:
        examined = await examine_server(server.url.replace("//", "//ada:x@"), domain="hocket")

    [access] = [diagnosis for diagnosis in judge(examined) if diagnosis.what == "access"]
    assert access.detail == "we are ada and may publish everything but not secret.>, may subscribe _INBOX.>"
