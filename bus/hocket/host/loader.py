"""Turns a service's folder into its agents, without installing anything."""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from hocket.agent import Agent
from hocket.errors import BadService, ManifestMismatch
from hocket.host import manifest
from hocket.host.manifest import CODE, FILE, Manifest

NO_VERSION = "0"
"""What an agent has whose code gives none; then the manifest's counts."""


@dataclass(frozen=True, slots=True)
class Service:
    """A folder that was loaded: what it says of itself, and its agents."""

    folder: Path
    manifest: Manifest
    agents: tuple[Agent[Any], ...]
    module: ModuleType
    """Its `agent.py`."""

    @property
    def name(self) -> str:
        """The folder's name, by which the host speaks of it."""
        return self.folder.name

    @property
    def replay(self) -> dict[str, bool]:
        """Of each agent, whether it begins with the first event ever when it is new to the log."""
        return {agent.name: self.manifest.start == "start" for agent in self.agents}


def load(folder: Path | str) -> Service:
    """Load a service and hold its manifest against its code.

    Raises BadManifest, BadService with whatever the code raised as its cause, and ManifestMismatch.
    """
    folder = Path(folder).resolve()
    declared = manifest.read(folder)
    if not (folder / CODE).is_file():
        raise BadService(f"{folder} has no {CODE}")
    module = _import(folder)
    agents = _agents_of(module)
    if not agents:
        raise BadService(f"{folder / CODE} holds no Agent; make one at its top level")
    different = differences(declared, agents)
    if different:
        raise ManifestMismatch(f"{folder / FILE} and {CODE} disagree: {'; '.join(different)}")
    for agent in agents:
        if agent.version == NO_VERSION and declared.version:
            agent.version = declared.version
        if declared.max_concurrency is not None:
            agent.limits = replace(agent.limits, concurrency=declared.max_concurrency)
    return Service(folder, declared, agents, module)


def differences(declared: Manifest, agents: Sequence[Agent[Any]]) -> list[str]:
    """Where a manifest and the agents of its code disagree; each a sentence's worth."""
    found: list[str] = []
    for what, said, done in (
        ("agents", set(declared.agents), {agent.name for agent in agents}),
        ("consumes", set(declared.consumes), {name for agent in agents for name in agent.handlers}),
        ("waits", set(declared.waits), {name for agent in agents for name in agent.waits}),
        ("emits", set(declared.emits), {name for agent in agents for name in agent.emits}),
    ):
        if what == "consumes" and declared.follows_sagas:
            continue
        if said - done:
            found.append(f"{what} names {_listed(said - done)}, which the code does not")
        if done - said:
            found.append(f"{what} lacks {_listed(done - said)}, which the code has")
    for agent in agents:
        if declared.version and agent.version not in (NO_VERSION, declared.version):
            found.append(f"version is {declared.version!r}, of {agent.name!r} in the code {agent.version!r}")
    return found


def package_of(folder: Path) -> str:
    """The name under which a folder's modules are imported: readable, and unlike any other folder's."""
    digest = blake2b(str(folder).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return f"hocket_service_{re.sub(r'[^A-Za-z0-9_]', '_', folder.name)}_{digest}"


def _import(folder: Path) -> ModuleType:
    """Import `agent.py` as a module of a package of its own, so that `from .other import …` works in it.

    The folder is that package by its path alone (an `__init__.py` is not run). Nothing is searched for, so
    services may have modules of the same name, and `sys.path` stays as it is.
    """
    package = package_of(folder)
    if package not in sys.modules:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"{package}.{Path(CODE).stem}")
    except Exception as error:  # around a service's own code: what it raises is its author's to mend
        for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
            del sys.modules[name]  # so that it can be loaded again once it is mended
        raise BadService(f"{_place(folder, error)}: {type(error).__name__}: {error}") from error


def _place(folder: Path, error: Exception) -> str:
    """The last line of the service's own code on the way to the error."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else f"{folder / CODE}"


def _agents_of(module: ModuleType) -> tuple[Agent[Any], ...]:
    """The agents at a module's top level, each once, in their order."""
    found: dict[int, Agent[Any]] = {id(value): value for value in vars(module).values() if isinstance(value, Agent)}
    return tuple(found.values())


def _listed(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


__all__ = ["Service", "differences", "load", "package_of"]
