"""Shows a person what would change, and merges exactly that; takes it back if nothing comes of the task."""

import asyncio
from datetime import timedelta
from hashlib import sha256

from examples.coding import repository
from examples.coding.repository import Refused
from examples.coding.schemas import ChangeMerged, ModuleReviewed, ModuleWritten, TaskFailed, TaskGiven, TaskPlanned

from hocket import Agent, Context, OnExhausted, Retry, StepFailed

merger = Agent("merger")


@merger.effect(retry=Retry(attempts_max=3, never=(Refused,)))
async def merge(files: dict[str, str], base: str, message: str, *, key: str) -> str:
    return await asyncio.to_thread(repository.merge, files, base, message, key=key)


@merge.undo
async def take_back(files: dict[str, str], base: str, message: str, commit: str | None, *, key: str) -> None:
    await asyncio.to_thread(repository.take_back, commit, key=key)


@merge.verify
async def find(files: dict[str, str], base: str, message: str, *, key: str) -> str | None:
    return await asyncio.to_thread(repository.find, key)


@merger.on(ModuleReviewed, on_exhausted=OnExhausted.FAIL_SAGA)
async def settle(event: ModuleReviewed, ctx: Context) -> ChangeMerged | TaskFailed:
    [task] = await ctx.history(TaskGiven)
    [plan] = await ctx.history(TaskPlanned)
    written = (await ctx.history(ModuleWritten))[-1]
    files = task.files(written.source)
    diff = await ctx.step(repository.diff, plan.base, files)
    shown = {
        "task": task.name,
        "diff": diff,
        "digest": sha256(diff.encode()).hexdigest(),
        "written by": written.model,
        "rounds": event.round,
        "tests passed": event.tests,
        "confined by": event.confined,
    }
    decision = await ctx.approve(f"Merge {task.name}?", details=shown, timeout=timedelta(days=2))
    if decision.edited:
        return TaskFailed(reason="a change cannot be edited on its way; deny it, and say what is wrong")
    if not decision.approved:
        return TaskFailed(reason=decision.reason or decision.option)
    message = f"Add {task.name}\n\nWritten-By: {written.model}\nApproved-By: {', '.join(decision.by)}"
    try:
        commit = await ctx.step(merge, files, plan.base, message)
    except StepFailed as error:
        return TaskFailed(reason=str(error))
    return ChangeMerged(commit=commit)
