"""Which services have failed for good, said in the log: whoever depends on one hears of it like of any other event."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from hocket.client import Bus
from hocket.errors import AppendTooLarge, HocketError, LogError, PermissionDenied
from hocket.telemetry import note
from hocket_schemas.event import Event
from hocket_schemas.services import ServiceFailed, ServiceRestored

AGAIN_S = 1.0
"""How long to wait before something is said again to a log that was not there."""

WAITING_MAX = 1000
"""Most that waits to be said; then the oldest is dropped, with a line that says so."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A service that has failed and was not restored since."""

    id: str
    """Of the event that says so."""

    event: ServiceFailed


def open_failures(events: list[tuple[str, ServiceFailed | ServiceRestored]]) -> list[Failure]:
    """What is left of these events, given with their ids in log order: of a service on a host the newest counts."""
    left: dict[tuple[str, str], Failure] = {}
    for event_id, event in events:
        place = (event.service, event.host)
        left.pop(place, None)
        if isinstance(event, ServiceFailed):
            left[place] = Failure(event_id, event)
    return list(left.values())


async def failures_in(bus: Bus) -> list[Failure]:
    """The services that the log knows as failed."""
    found: list[tuple[str, ServiceFailed | ServiceRestored]] = []
    async for delivery in bus.read(ServiceFailed, ServiceRestored):
        try:
            event = delivery.event
        except HocketError:  # anybody may publish under these types
            continue
        if isinstance(event, ServiceFailed | ServiceRestored):
            found.append((delivery.envelope.id, event))
    return open_failures(found)


async def failures_of(bus: Bus, host: str) -> list[Failure]:
    """Those of one host, waiting until the log can say."""
    while True:
        try:
            return [failure for failure in await failures_in(bus) if failure.event.host == host]
        except LogError as error:
            note(logging.WARNING, "earlier failures unread", why=str(error))
            await asyncio.sleep(AGAIN_S)


class Announcements:
    """What a supervisor has to say: each thing once, in its order, however long the log is away."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[tuple[Event, str, str, str]] = deque()
        self._more = asyncio.Event()
        self._said = asyncio.Event()
        self._said.set()

    def say(self, event: Event, *, service: str, saga: str, event_id: str) -> None:
        """Publish an event under a service's key, now or when the log is back."""
        if len(self._waiting) == WAITING_MAX:
            dropped = self._waiting.popleft()
            note(logging.ERROR, "announcement dropped", type=dropped[0].event_type, id=dropped[3])
        self._waiting.append((event, service, saga, event_id))
        self._said.clear()
        self._more.set()

    async def run(self) -> None:
        """Publish what there is to say, until cancelled."""
        while True:
            while self._waiting:
                event, service, saga, event_id = self._waiting[0]
                try:
                    await self._bus.publish(event, key=service, saga=saga, event_id=event_id)
                except HocketError as error:
                    if isinstance(error, LogError) and not isinstance(error, PermissionDenied | AppendTooLarge):
                        # Stored or not: said again under the same id it is there once.
                        note(logging.WARNING, "announcement waits", type=event.event_type, why=str(error))
                        await asyncio.sleep(AGAIN_S)
                        continue
                    note(logging.ERROR, "announcement refused", type=event.event_type, why=str(error))
                if self._waiting and self._waiting[0][3] == event_id:
                    self._waiting.popleft()
            self._said.set()
            self._more.clear()
            await self._more.wait()

    async def said(self) -> None:
        """Wait until everything is in the log."""
        await self._said.wait()


__all__ = ["Announcements", "Failure", "failures_in", "failures_of", "open_failures"]
