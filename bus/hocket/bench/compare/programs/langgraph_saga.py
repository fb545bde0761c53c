"""The saga on LangGraph: a graph of four nodes, whose checkpoint is kept before the next node runs."""

from contextlib import AsyncExitStack
from typing import Any, TypedDict

from lanes import HOPS, SETTINGS, run, serve
from langgraph.graph import START, StateGraph

CONNECTIONS = 20


class Passed(TypedDict):
    """What the nodes pass on."""

    number: int
    text: str
    hop: int


async def step(state: Passed) -> dict[str, Any]:
    """Pass on what came."""
    return {"text": state["text"], "hop": state["hop"] + 1}


async def saver(stack: AsyncExitStack) -> tuple[Any, list[str]]:
    """The checkpointer that we were told to take, and its packages."""
    if "postgres" in SETTINGS:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool = AsyncConnectionPool(
            SETTINGS["postgres"], min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=options, open=False, timeout=120
        )
        kept = AsyncPostgresSaver(await stack.enter_async_context(pool))
        packages = ["langgraph-checkpoint-postgres", "psycopg"]
    else:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        kept = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(SETTINGS["sqlite"]))
        packages = ["langgraph-checkpoint-sqlite"]
    await kept.setup()
    return kept, packages


async def main() -> None:
    """Build the graph and be measured."""
    async with AsyncExitStack() as stack:
        checkpointer, packages = await saver(stack)
        names = [f"step-{i + 1}" for i in range(HOPS)]
        builder = StateGraph(Passed)
        for before, name in zip([START, *names], names, strict=False):
            builder.add_node(name, step)
            builder.add_edge(before, name)
        graph = builder.compile(checkpointer=checkpointer)

        async def saga(number: int) -> None:
            first = {"number": number, "text": SETTINGS["text"], "hop": 0}
            config = {"configurable": {"thread_id": str(number)}}
            last = await graph.ainvoke(first, config=config, durability="sync")
            assert last["hop"] == HOPS

        await serve(saga, "langgraph", *packages)


run(main())
