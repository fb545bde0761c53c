"""Plans a task: what to do, and which files of the repository one has to know for it."""

from examples.coding import repository
from examples.coding.model import PATIENCE, chosen
from examples.coding.schemas import TaskGiven, TaskPlanned
from pydantic import BaseModel, Field
from pydantic_ai import Agent as Asked

from hocket import Agent, Context, OnExhausted
from hocket.llm import ask_model


class Plan(BaseModel):
    """What the model is asked for."""

    steps: list[str] = Field(description="what to do, in order, a short sentence each")
    reads: list[str] = Field(description="files of the repository that have to be read for it; none if it needs none")


planner = Asked(
    chosen(),
    name="planner",
    output_type=Plan,
    instructions="You plan how a Python module is written. You do not write it. Be brief.",
)

architect = Agent("architect")


@architect.on(TaskGiven, retry=PATIENCE, on_exhausted=OnExhausted.FAIL_SAGA)
async def plan(event: TaskGiven, ctx: Context) -> TaskPlanned:
    base = await ctx.step(repository.head)
    paths = await ctx.step(repository.paths, base)
    prompt = (
        f"Plan task {event.name}.\n\n{event.description}\n\n"
        f"It has to pass these tests:\n\n{event.tests}\n\nThe repository holds: {', '.join(paths) or 'nothing yet'}."
    )
    answer = await ask_model(ctx, planner, prompt)
    reads = [path for path in paths if path in answer.output.reads]
    model = answer.response.model_name or "unknown"
    return TaskPlanned(base=base, steps=answer.output.steps, reads=reads, model=model)
