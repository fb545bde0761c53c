"""DBOS: a workflow of four steps, on the two databases that it knows."""

from hocket.bench.compare import postgres, sqlite
from hocket.bench.compare.environment import Environment
from hocket.bench.compare.system import System

_ENVIRONMENT = Environment("dbos", ("dbos", "uvloop"))
_PROGRAM = "dbos_saga.py"

ON_SQLITE = System("dbos-sqlite", "DBOS, SQLite", _PROGRAM, sqlite.ON_DISK, sqlite.started, _ENVIRONMENT)
ON_POSTGRES = System("dbos-postgres", "DBOS, PostgreSQL", _PROGRAM, postgres.ON_DISK, postgres.started, _ENVIRONMENT)
