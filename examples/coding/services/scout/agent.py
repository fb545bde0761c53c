"""Collects what has to be known for a task: the files that its plan names, and the module as it is so far."""

from examples.coding import repository
from examples.coding.schemas import TaskGiven, TaskPlanned, TaskResearched

from hocket import Agent, Context, OnExhausted

FILES_MAX = 8
CHARACTERS_MAX = 20_000
"""Of each file; the rest is cut off, and that is said."""

scout = Agent("scout")


@scout.on(TaskPlanned, on_exhausted=OnExhausted.FAIL_SAGA)
async def research(event: TaskPlanned, ctx: Context) -> TaskResearched:
    [task] = await ctx.history(TaskGiven)
    files = {}
    for path in dict.fromkeys([f"{task.name}.py", *event.reads[:FILES_MAX]]):
        text = await ctx.step(repository.read, event.base, path)
        if text is not None:
            files[path] = text if len(text) <= CHARACTERS_MAX else f"{text[:CHARACTERS_MAX]}\n# and so on"
    return TaskResearched(files=files)
