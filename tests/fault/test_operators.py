"""What a person can do to the log behind the agents' backs: they notice, and mend it or stop aloud."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from hocket.agent import Agent
from hocket.client import Bus, open_bus
from hocket.errors import TopologyMismatch
from hocket.host.crew import Crew, running
from hocket.log.base import Write
from hocket.log.jetstream import JetStreamLog, connect
from hocket.log.wire import Frame
from hocket_schemas.event import Event

NOTICED_S = 30.0
"""Within this a mistake is mended, or somebody is told."""


class Asked(Event, type="operators.asked.v1"):
    n: int


class Answered(Event, type="operators.answered.v1"):
    n: int


def agent() -> Agent[Any]:
    teller = Agent("teller")

    @teller.on(Asked)
    async def answer(event: Asked) -> Answered:
        return Answered(n=event.n)

    return teller


async def api(log: JetStreamLog, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    frame = Frame(f"$JS.API.{verb}", orjson.dumps(body) if body else b"")
    answer: dict[str, Any] = orjson.loads(await log._link.ask([frame], asyncio.get_running_loop().time() + 5))
    return answer


async def delete_consumer(log: JetStreamLog) -> None:
    assert (await api(log, f"CONSUMER.DELETE.{log.stream}.teller"))["success"]


async def reset_to_the_start(log: JetStreamLog) -> None:
    found = await api(log, f"CONSUMER.INFO.{log.stream}.teller")
    answer = await api(log, f"CONSUMER.RESET.{log.stream}.teller", {"seq": found["config"]["opt_start_seq"]})
    assert "error" not in answer, answer


async def reset_past_the_end(log: JetStreamLog) -> None:
    assert "error" not in await api(log, f"CONSUMER.RESET.{log.stream}.teller", {"seq": 1000})


async def replace_consumer(log: JetStreamLog) -> None:
    """By one of the same name that delivers nothing of what the agent handles."""
    await delete_consumer(log)
    config = {"durable_name": "teller", "ack_policy": "explicit", "filter_subject": f"{log.domain}.0.none"}
    assert "error" not in await api(
        log, f"CONSUMER.CREATE.{log.stream}.teller", {"stream_name": log.stream, "config": config, "action": "create"}
    )


async def narrow_consumer(log: JetStreamLog) -> None:
    """To what the agent does not handle."""
    found = (await api(log, f"CONSUMER.INFO.{log.stream}.teller"))["config"]
    del found["filter_subjects"]
    config = {**found, "filter_subject": f"{log.domain}.0.none"}
    body = {"stream_name": log.stream, "config": config, "action": "update"}
    answer = await api(log, f"CONSUMER.CREATE.{log.stream}.teller", body)
    assert "error" not in answer, answer


async def pause_consumer(log: JetStreamLog) -> None:
    answer = await api(log, f"CONSUMER.PAUSE.{log.stream}.teller", {"pause_until": "2099-01-01T00:00:00Z"})
    assert answer["paused"]


MISTAKES = [delete_consumer, reset_to_the_start, reset_past_the_end, replace_consumer, narrow_consumer, pause_consumer]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_consumer_that_somebody_has_changed_is_made_again(
    nats_url: str, domain: str, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[JetStreamLog], Awaitable[None]]
) -> None:
    monkeypatch.setattr("hocket.log.jetstream.LOOK_S", 0.3)
    async with (
        connect(nats_url, domain=domain, max_bytes=1 << 24) as logs,
        open_bus(logs) as bus,
        running(Crew([agent()], logs)) as crew,
    ):
        await crew.owning()
        await answered(bus, range(5))
        await mistake(logs[0])
        await answered(bus, range(5, 10))

    assert crew.instances[0].tenures == 2, "once, and not for nothing again"


@pytest.mark.parametrize("edit", [{"discard": "old"}, {"max_age": 3600 * 10**9}, {"max_msgs": 100}])
async def test_an_agent_stops_aloud_when_its_stream_keeps_a_promise_no_more(
    nats_url: str, domain: str, monkeypatch: pytest.MonkeyPatch, edit: dict[str, Any]
) -> None:
    monkeypatch.setattr("hocket.log.jetstream.LOOK_S", 0.3)
    async with connect(nats_url, domain=domain, max_bytes=1 << 24) as logs:
        crew = Crew([agent()], logs)
        working = asyncio.ensure_future(crew.run())
        await crew.owning()
        answer = await api(logs[0], f"STREAM.INFO.{logs[0].stream}")
        assert "error" not in await api(logs[0], f"STREAM.UPDATE.{logs[0].stream}", answer["config"] | edit)

        async with asyncio.timeout(NOTICED_S):
            with pytest.RaisesGroup(
                pytest.RaisesExc(TopologyMismatch, match=next(iter(edit))),
                allow_unwrapped=False,
                flatten_subgroups=True,
            ):
                await working


@pytest.mark.parametrize("verb", ["PURGE", "MSG.DELETE"])
async def test_nobody_takes_a_fact_out_of_the_log(nats_url: str, domain: str, verb: str) -> None:
    async with connect(nats_url, domain=domain, max_bytes=1 << 24) as [log]:
        await log.append([Write(f"{domain}.0.a", b"x")])
        answer = await api(log, f"STREAM.{verb}.{log.stream}", {"seq": 1})
        lifted = await api(log, f"STREAM.INFO.{log.stream}")
        lifted = lifted["config"] | {"deny_purge": False, "deny_delete": False}
        refused = await api(log, f"STREAM.UPDATE.{log.stream}", lifted)
        kept = await log.last(f"{domain}.0.a")

    assert "error" in answer
    assert "error" in refused
    assert kept


async def answered(bus: Bus, numbers: range) -> None:
    """Ask, and wait for every answer. Each comes once."""
    await bus.publish_many([Asked(n=n) for n in numbers], key="k")
    async with asyncio.timeout(NOTICED_S), bus.subscribe("operators.answered.v1", start="start") as deliveries:
        found = [(await anext(deliveries)).envelope.data["n"] for _ in range(numbers.stop)]
    assert found == list(range(numbers.stop))
