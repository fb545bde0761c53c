"""Who writes a brief: the services that take part, and where they live."""

from collections.abc import Sequence
from pathlib import Path

from hocket.host import manifest
from hocket_schemas.briefs import BriefPublished, BriefRequested
from hocket_schemas.errors import HocketError

_CHECKOUT = Path(__file__).resolve().parents[3]
"""Of an installation that points into a checkout; of any other, a folder without services."""


class NoCrew(HocketError):
    """The services that write a brief are not there.

    They are no part of the installed package: run the demo in a checkout of hocket, or name their directory.
    """


def find(given: Path | None = None) -> Path:
    """The directory of services: the one that is given, `services` here, or that of the checkout we run from.

    Raises NoCrew.
    """
    for directory in [given] if given else [Path("services"), _CHECKOUT / "services"]:
        try:
            members(directory)
        except NoCrew:
            if given:
                raise
        else:
            return directory.resolve()
    raise NoCrew(
        "the services that write a brief are not part of the installed package, and there are none in ./services; "
        "run `hocket demo` in a checkout of hocket, or give --services DIR"
    )


def members(directory: Path) -> Sequence[Path]:
    """The services of a directory that take part: whoever hears of a brief, directly or through another.

    So an agent that wants to know what was published plays along as soon as its folder is there, and services
    that do something else are left in peace. Raises NoCrew when no way leads to a published brief, and
    BadManifest.
    """
    said = {BriefRequested.event_type}
    waiting = {folder: manifest.read(folder) for folder in manifest.services_in(directory)}
    taking_part: list[Path] = []
    while True:
        hearing = [f for f, service in waiting.items() if service.follows_sagas or said.intersection(service.consumes)]
        if not hearing:
            break
        for folder in hearing:
            said.update(waiting.pop(folder).emits)
        taking_part += hearing
    if BriefPublished.event_type not in said:
        raise NoCrew(f"no service in {directory} emits {BriefPublished.event_type}: nobody there publishes a brief")
    return sorted(taking_part)


__all__ = ["NoCrew", "find", "members"]
