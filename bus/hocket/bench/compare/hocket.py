"""hocket's own rows: four agents, and one handler of four steps, on a nats-server that syncs or leaves it be."""

from hocket.bench.compare import nats
from hocket.bench.compare.system import System

_PROGRAM = "hocket_saga.py"

CHAIN = System("hocket", "hocket, four agents", _PROGRAM, nats.SYNCED, nats.started(nats.ALWAYS, form="chain"))
STEPS = System("hocket-steps", "hocket, one handler", _PROGRAM, nats.SYNCED, nats.started(nats.ALWAYS, form="steps"))
CHAIN_LATER = System(
    "hocket-unsynced", "hocket, four agents", _PROGRAM, nats.NOT_SYNCED, nats.started(nats.LATER, form="chain")
)
