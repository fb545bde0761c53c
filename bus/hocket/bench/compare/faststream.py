"""FastStream on JetStream, on the nats-server and with the sync that hocket gets; no more than that is promised."""

from hocket.bench.compare import nats
from hocket.bench.compare.environment import Environment
from hocket.bench.compare.system import System

FASTSTREAM = System(
    "faststream",
    "FastStream on JetStream",
    "faststream_saga.py",
    nats.SYNCED,
    nats.started(nats.ALWAYS),
    Environment("faststream", ("faststream[nats]", "uvloop")),
)
