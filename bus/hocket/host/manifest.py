"""What a service says of itself before any of its code runs: `agent.toml` as a value."""

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, Literal

from hocket.errors import BadManifest
from hocket.host.memory import MIB
from hocket.host.restarts import Restarts
from hocket_schemas.event import TYPE_PATTERN

FILE = "agent.toml"
CODE = "agent.py"

SAGAS = "sagas"
"""What an agent may say to consume, instead of a list, that follows every declared saga."""

Start = Literal["now", "start"]
"""What an agent that is new to the log begins with: what comes from now on, or the first event ever."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TEXTS = ("name", "version", "about", "from")
_LISTS = ("consumes", "waits", "emits", "outside", "agents")
_WHOLE = ("memory_mib", "max_concurrency", "instances")
_RESTART = "restart"
_POLICY = fields_of(Restarts)
_KNOWN = (*_TEXTS, *_LISTS, *_WHOLE, _RESTART)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One service's manifest.

    ```toml
    name = "greeter"
    version = "1"
    about = "Greets whoever asks for it."
    from = "now"
    consumes = ["greeting.asked.v1"]
    emits = ["greeting.given.v1"]
    memory_mib = 300
    max_concurrency = 16

    [restart]
    restarts_max = 3
    window_s = 120
    ```
    """

    name: str
    """The agent's name; of a service with several agents, its own."""

    version: str = ""
    """Empty: whatever the code says."""

    about: str = ""
    start: Start = "now"
    """`from` in the file. It counts only once: later the cursor says where to go on."""

    consumes: tuple[str, ...] = ()
    """The event types that it handles."""

    follows_sagas: bool = False
    """`consumes = "sagas"` in the file: whatever starts and ends the declared sagas, so that a new policy is
    followed without a change here."""

    waits: tuple[str, ...] = ()
    """The event types that no handler takes and that one may wait for."""

    emits: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    """Of what it consumes or waits for, the types that come from outside the crew: from a program, or from a person."""

    agents: tuple[str, ...] = ()
    """The names of the agents in `agent.py`; need not be given when there is one, named like the service."""

    memory_mib: int | None = None
    """The most memory that its process may hold, in MiB, before it is started again in good order; None: no cap."""

    max_concurrency: int | None = None
    """The most handlers that each of its agents runs at once, on each shard; None: whatever the code says."""

    instances: int = 1
    """How many processes of it a host keeps: one owns, the others stand by, on each shard. Read when the host begins
    to keep it; a process that hosts several services is always one."""

    restarts: Restarts | None = None
    """`[restart]` in the file; what it leaves out is as in `Restarts()`. None: whatever the host does."""


def is_service(folder: Path) -> bool:
    """Whether a folder holds a service: a manifest and its code."""
    return (folder / FILE).is_file() and (folder / CODE).is_file()


def services_in(folder: Path) -> list[Path]:
    """The services of a folder, by name; a folder that is a service itself is the only one."""
    if is_service(folder):
        return [folder]
    return sorted(path for path in folder.glob("*") if is_service(path)) if folder.is_dir() else []


def cap_of(manifests: Sequence[Manifest]) -> int | None:
    """The most memory that one process of these services may hold, in bytes; None: no cap.

    They share their caps; one without a cap has no bound, so all have none.
    """
    caps = [each.memory_mib for each in manifests]
    return MIB * sum(cap for cap in caps if cap) if all(caps) else None


def read(folder: Path) -> Manifest:
    """The manifest of a service. Raises BadManifest, naming the file and the key."""
    path = folder / FILE
    try:
        return parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(f"{path} cannot be read: {error}") from error


def parse(text: str, where: str) -> Manifest:
    """A manifest from its text. Raises BadManifest; `where` is what the message calls the text."""
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadManifest(f"{where} is no TOML: {error}") from error
    unknown = sorted(set(fields) - {*_KNOWN})
    if unknown:
        raise BadManifest(f"{where}: unknown key {unknown[0]!r}, known are {', '.join(_KNOWN)}")
    follows_sagas = fields.get("consumes") == SAGAS
    if follows_sagas:
        del fields["consumes"]
    texts = {key: _text(fields, key, where) for key in _TEXTS}
    lists = {key: _names(fields, key, where) for key in _LISTS}
    name = texts["name"]
    if not _NAME.fullmatch(name):
        raise BadManifest(f"{where}: name is {name!r}, wants ASCII letters, digits, '-' and '_'")
    if texts["from"] not in ("", "now", "start"):
        raise BadManifest(f"{where}: from is {texts['from']!r}, wants 'now' or 'start'")
    for key in ("consumes", "waits", "emits"):
        for event_type in lists[key]:
            if not TYPE_PATTERN.fullmatch(event_type):
                raise BadManifest(f"{where}: {key} names {event_type!r}, wants types such as 'noun.verbed.v1'")
    strangers = sorted(set(lists["outside"]) - {*lists["consumes"], *lists["waits"]})
    if strangers:
        raise BadManifest(f"{where}: outside names {strangers[0]!r}, which neither consumes nor waits does")
    return Manifest(
        name=name,
        version=texts["version"],
        about=texts["about"],
        start="start" if texts["from"] == "start" else "now",
        consumes=lists["consumes"],
        waits=lists["waits"],
        follows_sagas=follows_sagas,
        emits=lists["emits"],
        outside=lists["outside"],
        agents=lists["agents"] or (name,),
        memory_mib=_whole(fields, "memory_mib", where),
        max_concurrency=_whole(fields, "max_concurrency", where),
        instances=_whole(fields, "instances", where) or 1,
        restarts=_restarts(fields, where),
    )


def _text(fields: dict[str, Any], key: str, where: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise BadManifest(f"{where}: {key} is {value!r}, wants a text in quotes")
    return value


def _names(fields: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = fields.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadManifest(f"{where}: {key} is {value!r}, wants a list of texts")
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise BadManifest(f"{where}: {key} names {twice[0]!r} twice")
    return tuple(sorted(value))


def _whole(fields: dict[str, Any], key: str, where: str) -> int | None:
    value = fields.get(key)
    if value is not None and (type(value) is not int or value < 1):
        raise BadManifest(f"{where}: {key} is {value!r}, wants a whole number from 1 on")
    return value


def _restarts(fields: dict[str, Any], where: str) -> Restarts | None:
    table = fields.get(_RESTART)
    if table is None:
        return None
    if not isinstance(table, dict):
        raise BadManifest(f"{where}: restart is {table!r}, wants a table: [restart]")
    known = {each.name: type(each.default) for each in _POLICY}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise BadManifest(f"{where}: restart has an unknown key {unknown[0]!r}, known are {', '.join(known)}")
    for key, value in table.items():
        whole = known[key] is int
        if type(value) is not int and (whole or type(value) is not float or not math.isfinite(value)):
            raise BadManifest(f"{where}: restart.{key} is {value!r}, wants a {'whole ' if whole else ''}number")
    restarts = Restarts(**table)
    if restarts.wrong:
        raise BadManifest(f"{where}: restart.{restarts.wrong}")
    return restarts


__all__ = ["CODE", "FILE", "Manifest", "Start", "cap_of", "is_service", "parse", "read", "services_in"]
