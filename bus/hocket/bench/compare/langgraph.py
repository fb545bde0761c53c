"""LangGraph: a graph of four nodes with durability "sync", on its two checkpointers."""

from hocket.bench.compare import postgres, sqlite
from hocket.bench.compare.environment import Environment
from hocket.bench.compare.system import System

_ENVIRONMENT = Environment(
    "langgraph",
    ("langgraph", "langgraph-checkpoint-postgres", "langgraph-checkpoint-sqlite", "psycopg[binary,pool]", "uvloop"),
)
_PROGRAM = "langgraph_saga.py"

ON_SQLITE = System("langgraph-sqlite", "LangGraph, SQLite", _PROGRAM, sqlite.ON_DISK, sqlite.started, _ENVIRONMENT)
ON_POSTGRES = System(
    "langgraph-postgres", "LangGraph, PostgreSQL", _PROGRAM, postgres.ON_DISK, postgres.started, _ENVIRONMENT
)
