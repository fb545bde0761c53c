"""Writes a module against the tests that were given, and again when it does not pass them."""

from examples.coding.model import PATIENCE, chosen
from examples.coding.schemas import ChangesWanted, ModuleWritten, TaskGiven, TaskPlanned, TaskResearched
from pydantic import BaseModel, Field
from pydantic_ai import Agent as Asked

from hocket import Agent, Context, OnExhausted
from hocket.llm import ask_model


class Module(BaseModel):
    """What the model is asked for."""

    source: str = Field(description="the whole module, as Python source and nothing else")


author = Asked(
    chosen(),
    name="author",
    output_type=Module,
    instructions=(
        "You write one Python module that passes the given tests. The standard library and the repository are all "
        "that it may import; it may not use the network, start processes, or touch files. Keep it small and clear."
    ),
)

coder = Agent("coder")


@coder.on(TaskResearched, retry=PATIENCE, on_exhausted=OnExhausted.FAIL_SAGA)
async def write(event: TaskResearched, ctx: Context) -> ModuleWritten:
    return await written(ctx, event, 1, "")


@coder.on(ChangesWanted, retry=PATIENCE, on_exhausted=OnExhausted.FAIL_SAGA)
async def mend(event: ChangesWanted, ctx: Context) -> ModuleWritten:
    [research] = await ctx.history(TaskResearched)
    last = (await ctx.history(ModuleWritten))[-1]
    failed = f"\n\nYour last attempt was:\n\n{last.source}\n\nIt did not pass:\n\n{event.failures}"
    return await written(ctx, research, event.round + 1, failed)


async def written(ctx: Context, research: TaskResearched, nth: int, failed: str) -> ModuleWritten:
    [task] = await ctx.history(TaskGiven)
    [plan] = await ctx.history(TaskPlanned)
    known = "".join(f"\n\nThe repository's {path}:\n\n{text}" for path, text in research.files.items())
    prompt = (
        f"Write {task.name}.py.\n\n{task.description}\n\nThe plan:\n- " + "\n- ".join(plan.steps) + known +
        f"\n\nIt has to pass test_{task.name}.py:\n\n{task.tests}{failed}"
    )  # fmt: skip
    answer = await ask_model(ctx, author, prompt)
    model = answer.response.model_name or "unknown"
    return ModuleWritten(round=nth, source=answer.output.source, model=model)
