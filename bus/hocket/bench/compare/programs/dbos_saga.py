"""The saga on DBOS: a workflow of four steps, each recorded in the system database."""

import sqlite3
from typing import Any

from dbos import DBOS, DBOSConfig
from lanes import HOPS, SETTINGS, run, serve

CONNECTIONS = 20


@DBOS.step()
async def step(passed: dict[str, Any]) -> dict[str, Any]:
    """Pass on what came."""
    return passed | {"hop": passed["hop"] + 1}


@DBOS.workflow()
async def workflow(passed: dict[str, Any]) -> dict[str, Any]:
    """The four steps."""
    for _ in range(HOPS):
        passed = await step(passed)
    return passed


async def saga(number: int) -> None:
    """Run a workflow to its end."""
    last = await workflow({"number": number, "text": SETTINGS["text"], "hop": 0})
    assert last["hop"] == HOPS


async def main() -> None:
    """Launch DBOS and be measured."""
    if "sqlite" in SETTINGS:
        # DBOS leaves SQLite's journal as it is; a log is faster, and the file remembers that it has one.
        with sqlite3.connect(SETTINGS["sqlite"]) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        url = f"sqlite:///{SETTINGS['sqlite']}"
    else:
        url = SETTINGS["postgres"]
    config: DBOSConfig = {
        "name": "compare",
        "system_database_url": url,
        "sys_db_pool_size": CONNECTIONS,
        "run_admin_server": False,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        await serve(saga, "dbos")
    finally:
        DBOS.destroy()


run(main())
