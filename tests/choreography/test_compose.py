"""The cluster that compose.yaml describes, as three processes on this machine, with the crew on it."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from hocket.client import Bus, open_bus
from hocket.demo.brief import verify
from hocket.errors import NotFound, OutcomeUnknown, Unavailable
from hocket.host.supervisor import Fleet
from hocket.log import jetstream
from hocket.log.server import find_binary
from hocket.observe.runs import asking, decide
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.briefs import BriefFailed, BriefPublished, BriefRequested

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
NODES: dict[str, Any] = {n: s for n, s in COMPOSE["services"].items() if s["command"][0] == "nats-server"}
CREW: dict[str, Any] = {n: s for n, s in COMPOSE["services"].items() if s["command"][0] == "hocket"}
SHARDS = 2
"""Fewer than compose.yaml has, since fifty-six consumers with three replicas each take two cores a while."""

NOTES = {
    "log.md": "The log keeps every event that an agent has published. An event is never changed after that. "
    "The owner of an agent writes to the log in one atomic append.",
    "owner.md": "The owner claims the agent before it writes. A claim has a sequence, and the sequence is a token. "
    "An older owner cannot write to the log after a newer claim.",
}


def free_ports(number: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(number)]
    try:
        for each in with_ports:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in with_ports]
    finally:
        for each in with_ports:
            each.close()


def environment_of(node: str, index: int, ports: list[int], store: Path) -> dict[str, str]:
    """What compose.yaml gives a node, with this machine's places in place of the containers'."""
    ports_of = {name: ports[i::3] for i, name in enumerate(("PORT", "MONITOR_PORT", "CLUSTER_PORT"))}
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports_of["CLUSTER_PORT"])
    places = {f"HOCKET_NATS_{name}": str(own[index]) for name, own in ports_of.items()}
    given: dict[str, str] = NODES[node]["environment"]
    assert set(places) < set(given)
    return {
        **given,
        **places,
        "HOCKET_NATS_HOST": "127.0.0.1",
        "HOCKET_NATS_ROUTES": f"[{routes}]",
        "HOCKET_NATS_STORE": str(store / node),
    }


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[str, dict[str, Process]]]:
    ports = free_ports(3 * len(NODES))
    processes: dict[str, Process] = {}
    try:
        for index, node in enumerate(NODES):
            processes[node] = await asyncio.create_subprocess_exec(
                find_binary(),
                "--config",
                ROOT / "deploy" / "nats.conf",
                env={**os.environ, **environment_of(node, index, ports, tmp_path)},
                stderr=asyncio.subprocess.DEVNULL,
            )
        yield ",".join(f"nats://127.0.0.1:{port}" for port in ports[0::3]), processes
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


async def approve(bus: Bus, asked: ApprovalRequested) -> None:
    """Approve as `hocket approve` does, as soon as the log has a leader again."""
    yes = ApprovalDecided(approval=asked.approval, digest=asked.digest, option=asked.options[0], by="test")
    while True:
        try:
            await decide(bus, await asking(bus, asked.approval), yes, event_id="approval")
        except (NotFound, Unavailable, OutcomeUnknown):
            await asyncio.sleep(0.1)
        else:
            return


async def test_the_crew_writes_a_brief_on_three_nodes_though_the_leader_is_killed(
    cluster: tuple[str, dict[str, Process]], tmp_path: Path
) -> None:
    url, nodes = cluster
    notes = tmp_path / "notes"
    notes.mkdir()
    for name, text in NOTES.items():
        (notes / name).write_text(text)
    folders = [ROOT / "services" / name for name in CREW]
    out = tmp_path / "brief.md"

    async with AsyncExitStack() as stack:
        logs = await stack.enter_async_context(
            jetstream.connect(url, shards=SHARDS, replicas=3, timeout_s=30, max_bytes=64 << 20)
        )
        fleet = await stack.enter_async_context(Fleet(folders, url=url))
        await fleet.ready(60)
        bus = await stack.enter_async_context(open_bus(logs))
        request = BriefRequested(folder=str(notes), out=str(out), topic="How the owner of an agent writes to the log")
        asked = await bus.ask(request, reply=[ApprovalRequested, BriefFailed], saga="notes", timeout_s=60)
        assert isinstance(asked.event, ApprovalRequested), asked.event

        leader = await logs[asked.shard].leader()
        assert leader is not None
        nodes[leader].send_signal(signal.SIGKILL)
        async with (
            bus.subscribe(BriefPublished, BriefFailed, key="notes", start=asked.seq) as endings,
            asyncio.timeout(60),
        ):
            await approve(bus, asked.event)
            published = await anext(endings)

        assert isinstance(published.event, BriefPublished), published.event
        assert verify(out, notes) == []
