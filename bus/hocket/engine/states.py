"""The states of one tenure's actors: those in memory, and those that have to be read from their records."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from hocket.agent import Agent
from hocket.engine.handling import Handling
from hocket.engine.recall import Recall
from hocket.engine.transition import Cell

LOOKED_AT = 16
"""Of so many states at most, those not used for longest, it is seen at a time whether they may go."""


class States:
    """Gives each turn its actor's state."""

    def __init__(self, agent: Agent[Any], handling: Handling, recall: Recall, busy: Callable[[str], bool]) -> None:
        self._agent = agent
        self._handling = handling
        self._recall = recall
        self._cells = Cells(agent.limits.actors_cached, agent.limits.actors_cached_bytes, busy)

    async def load(self, key: str) -> Cell | None:
        """The state for the actor's turn: from memory, or from its record. None: the agent has no state."""
        cell = await self.look(key)
        if cell is not None:
            self._cells.put(key, cell)
        return cell

    async def look(self, key: str) -> Cell | None:
        """The same for somebody whose turn it is not, and who must not change it."""
        if self._agent.state_type is None:
            return None
        cell = self._cells.get(key)
        if cell is not None:
            return cell
        subject = self._handling.names.actor(self._agent.name, key)
        found = await self._recall.read(subject)
        if not found:
            value = self._handling.fresh_state()
            return Cell(subject, 0, value.__pydantic_serializer__.to_json(value), value, self._agent.state_kept)
        [message] = found
        value = self._handling.read_state(message.data)
        return Cell(subject, message.seq, message.data, value, self._agent.state_kept)

    def restore(self, cell: Cell | None) -> None:
        """Undo what a failed attempt did to the state."""
        if cell is not None:
            cell.value = self._handling.read_state(cell.data)

    def copy(self, cell: Cell | None) -> Any:
        """The actor's state as it is now, for an execution that must not change it."""
        return self._handling.read_state(cell.data) if cell is not None else None


class Cells:
    """The actor states in memory: the most recently used, and all that know more than the log."""

    def __init__(self, most: int, most_bytes: int, busy: Callable[[str], bool]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._busy = busy
        self._cells: OrderedDict[str, Cell] = OrderedDict()
        self._sizes: dict[str, int] = {}
        """In bytes, as each was when its last turn began."""

        self._bytes = 0

    def get(self, key: str) -> Cell | None:
        """The key's state, if it is here."""
        cell = self._cells.get(key)
        if cell is not None:
            self._cells.move_to_end(key)
        return cell

    def put(self, key: str, cell: Cell) -> None:
        """Keep a state, and let go of the ones not used for longest that are neither pending nor busy."""
        self._cells[key] = cell
        size = len(cell.data)
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        for _ in range(LOOKED_AT):
            if len(self._cells) <= self._most and self._bytes <= self._most_bytes:
                return
            old_key, old = next(iter(self._cells.items()))
            if old.pending or self._busy(old_key):
                self._cells.move_to_end(old_key)
            else:
                self.drop(old_key)

    def drop(self, key: str) -> None:
        """Forget a state."""
        if self._cells.pop(key, None) is not None:
            self._bytes -= self._sizes.pop(key)


__all__ = ["Cells", "States"]
