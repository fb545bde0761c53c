"""What is too large for a journal entry: named by its content, kept in pieces, and checked when it is put together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from hocket.errors import ResultLost

INLINE_BYTES_MAX = 256 * 1024
"""What is no larger stands in the entry itself."""

CHUNK_BYTES = 256 * 1024
"""The size of every piece but the last."""

ESCAPED_BYTES_MOST = 6
"""What one character of a text comes to in JSON at most."""

FRAME_BYTES_MOST = 4096
"""What an entry's members come to at most, without the texts and the JSON in them."""


@dataclass(frozen=True, slots=True)
class Blob:
    """JSON that is in the log beside the entry that names it."""

    digest: str
    """256 bits of BLAKE2b over all of it, in hexadecimal."""

    size: int
    """In bytes."""

    chunks: int

    @classmethod
    def of(cls, body: bytes) -> "Blob":
        """The name of some JSON."""
        return cls.named(blake2b(body, digest_size=32).hexdigest(), len(body))

    @classmethod
    def named(cls, digest: str, size: int) -> "Blob":
        """The one that bears this digest."""
        return cls(digest, size, -(-size // CHUNK_BYTES))

    def cut(self, body: bytes) -> Iterator[bytes]:
        """Its pieces, in order."""
        return (body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES))

    def joined(self, pieces: Sequence[bytes | None]) -> bytes:
        """Put it together again. Raises ResultLost when a piece is missing, or is not what was stored."""
        found = [piece for piece in pieces if piece is not None]
        if len(found) < self.chunks:
            missing = self.chunks - len(found)
            raise ResultLost(f"{missing} of the {self.chunks} pieces of blob {self.digest} are not in the log any more")
        body = b"".join(found)
        if Blob.of(body) != self:
            raise ResultLost(f"blob {self.digest} is damaged: its pieces do not give what was stored")
        return body


@dataclass(frozen=True, slots=True)
class Left:
    """What a call leaves in the journal besides its result."""

    record: bytes
    """How the result came about, as JSON."""

    contents: tuple[bytes, ...] = ()
    """What the record names by its digest, each kept once."""
