"""What this project declares: the types and sagas of hocket_schemas and of the services at hand."""

from pathlib import Path

from hocket.cli.output import say
from hocket.errors import HocketError
from hocket.host import manifest
from hocket.host.place import running_here
from hocket_schemas import catalog, sagas
from hocket_schemas.errors import UnknownType
from hocket_schemas.event import Event
from hocket_schemas.sagas import Saga


def services_dir() -> Path:
    """Where the services at hand are: those of the system that runs from here, else `services`."""
    running = running_here()
    return Path(running.services_dir) if running else Path("services")


def declared_type(event_type: str) -> type[Event] | None:
    """The class of a type; None when nobody here declares it. Services are loaded only if they have to be."""
    catalog.discover()
    if event_type not in catalog.known():
        load_services()
    try:
        return catalog.find(event_type)
    except UnknownType:
        return None


def policies() -> tuple[Saga, ...]:
    """Every saga policy that is declared here. Raises DuplicateSaga."""
    catalog.discover()
    load_services()
    return sagas.declared()


def load_services() -> None:
    """Load the services at hand for what they declare; one that cannot be loaded is named and left out."""
    from hocket.host.loader import load

    for folder in manifest.services_in(services_dir()):
        try:
            load(folder)
        except HocketError as error:
            say(f"{folder.name} is not asked for its types: {error}")
