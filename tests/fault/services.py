"""Services that the tests write, run and kill as processes."""

from pathlib import Path

from hocket.client import Bus
from hocket.host.restarts import Restarts
from hocket.observe.history import Remembered, history

AT_ONCE = Restarts(restarts_max=1000, second_s=0.0)
"""For services that are killed all the time."""


def written(folder: Path, code: str, manifest: str) -> Path:
    """A service's folder."""
    folder.mkdir()
    (folder / "agent.py").write_text(code)
    (folder / "agent.toml").write_text(manifest)
    return folder


async def journal(bus: Bus, key: str) -> list[Remembered]:
    """What the runs of a key remember."""
    return [entry for entry in await history(bus, key) if isinstance(entry, Remembered)]
