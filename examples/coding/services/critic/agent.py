"""Has a module tried with the tests, sends it back when it fails, and tries all of it again when it is merged."""

import os

from examples.coding import repository
from examples.coding.schemas import (
    ChangeMerged,
    ChangesWanted,
    ModuleReviewed,
    ModuleWritten,
    TaskDone,
    TaskFailed,
    TaskGiven,
    TaskPlanned,
)
from examples.coding.trial import Tried, tried

from hocket import Agent, Context, OnExhausted

ROUNDS_MAX = int(os.environ.get("CODING_ROUNDS_MAX", "3"))

critic = Agent("critic")


def try_out(commit: str, changes: dict[str, str]) -> Tried:
    """Run all tests of the repository as of a commit, with some files changed."""
    files = {path: repository.read(commit, path) or "" for path in repository.paths(commit)}
    return tried(files | changes)


@critic.on(ModuleWritten, on_exhausted=OnExhausted.FAIL_SAGA)
async def review(event: ModuleWritten, ctx: Context) -> ModuleReviewed | ChangesWanted | TaskFailed:
    [task] = await ctx.history(TaskGiven)
    [plan] = await ctx.history(TaskPlanned)
    result = await ctx.step(try_out, plan.base, task.files(event.source))
    if result.passed:
        return ModuleReviewed(round=event.round, tests=result.tests, confined=result.confined)
    if event.round < ROUNDS_MAX:
        return ChangesWanted(round=event.round, failures=result.says)
    return TaskFailed(reason=f"It does not pass after {event.round} rounds:\n{result.says}")


@critic.on(ChangeMerged, on_exhausted=OnExhausted.FAIL_SAGA)
async def confirm(event: ChangeMerged, ctx: Context) -> TaskDone | TaskFailed:
    result = await ctx.step(try_out, event.commit, {})
    if result.passed:
        return TaskDone(commit=event.commit, tests=result.tests)
    return TaskFailed(reason=f"The repository does not pass with {event.commit}:\n{result.says}")
