"""What people ask of the supervisors of a domain, from wherever they are."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from hocket.beside import pass_on_cancellation
from hocket.client import Bus
from hocket.errors import HocketError, LogError
from hocket.telemetry import note
from hocket_schemas.services import RestartRequested

AGAIN_S = 1.0
"""How long to wait before a log is followed again that has stopped answering."""


async def obey(bus: Bus, host: str, restart: Callable[[str], None]) -> None:
    """Call `restart` with each service that somebody wants anew on this host, from now on, until cancelled."""
    while True:
        try:
            async with bus.subscribe(RestartRequested) as deliveries:
                async for delivery in deliveries:
                    with suppress(HocketError):  # it is no such event, or about a service that others keep
                        request = delivery.event
                        if isinstance(request, RestartRequested) and request.host in (None, host):
                            restart(request.service)
        except LogError as error:
            note(logging.WARNING, "requests unread", why=str(error))
        pass_on_cancellation()
        await asyncio.sleep(AGAIN_S)


__all__ = ["obey"]
