"""How a service process learns that whoever started it is gone."""

import asyncio
import socket

import pytest

from hocket.host.child import Stop


@pytest.mark.parametrize("unread", [b"", b"still at work\n"], ids=["all read", "words unread"])
async def test_the_end_of_the_parent_is_noticed_however_much_it_has_read(unread: bytes) -> None:
    parent, child = socket.socketpair()
    stops: list[Stop] = []
    raised: list[object] = []

    async def serve() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: raised.append(about))
        stops.append(Stop())
        stops[0].at_the_end_of(child.fileno())
        parent.close()
        await asyncio.get_running_loop().create_future()

    with child:
        child.send(unread)
        served = asyncio.create_task(serve())
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await served

    assert stops[0].asked
    assert raised == []
