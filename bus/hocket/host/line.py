"""The line between a supervisor and a process that it started: the child's standard input, a socket.

Its end tells the child that the supervisor is gone, however it went. In the other direction the child's loop sends an
empty line with each beat, and its watchdog a JSON object when the loop is blocked. A supervisor that does not read
costs the child nothing: what finds no room is dropped.
"""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

READ_BYTES = 4096
LINE_BYTES_MAX = 64 * 1024
"""A longer line is dropped: the child's own code can write here too."""


class ChildEnd:
    """What a child says, if anybody has it on a line at all."""

    def __init__(self, descriptor: int) -> None:
        is_line = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        self._socket = socket.socket(fileno=os.dup(descriptor)) if is_line else None

    def beat(self) -> None:
        """Say that the loop turns."""
        self._send(b"\n")

    def say(self, fields: dict[str, Any]) -> None:
        """Say something else; may be called by any thread."""
        self._send(orjson.dumps(fields) + b"\n")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, line: bytes) -> None:
        if self._socket is not None:
            with suppress(OSError):  # full, or nobody is there any more
                self._socket.send(line, socket.MSG_DONTWAIT)


class HostEnd:
    """What the supervisor keeps of it: reads until the child is gone, and lets go of the child when it is closed."""

    def __init__(self, heard: Callable[[dict[str, Any]], None]) -> None:
        self.beats = 0
        """How many were heard."""

        self._heard = heard
        self._rest = b""
        self._socket, self.child = socket.socketpair()
        """`child` is to be the child's standard input; whoever has started it closes it here."""

        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """Let go: the child is asked to stop by that, if it still lives. What it has said before is heard."""
        self.child.close()
        if self._socket.fileno() >= 0:
            self._read()
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        try:
            received = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            asyncio.get_running_loop().remove_reader(self._socket)
            return
        *lines, self._rest = (self._rest + received).split(b"\n")
        self._rest = self._rest[-LINE_BYTES_MAX:]
        for line in lines:
            if not line:
                self.beats += 1
                continue
            with suppress(ValueError):
                fields = orjson.loads(line)
                if isinstance(fields, dict):
                    self._heard(fields)


__all__ = ["ChildEnd", "HostEnd"]
