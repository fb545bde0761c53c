"""Identities: derived from causes where the log must recognise work, random where it need not."""

import secrets
from base64 import b32encode
from hashlib import blake2b


def cause_of(agent: str, source: str, event_id: str) -> str:
    """The token of one handling: the same whenever, wherever and with whatever outcome it is repeated.

    80 bits of BLAKE2b over (agent, source, id) in base32: 16 characters. It only has to be unique among
    the handlings of one key by one agent.
    """
    digest = blake2b("\0".join((agent, source, event_id)).encode(), digest_size=10).digest()
    return b32encode(digest).decode().lower()


def derived(cause: str, name: str) -> str:
    """An id that handling the same event again yields again."""
    return b32encode(blake2b(f"{cause}\0{name}".encode(), digest_size=10).digest()).decode().lower()


def fresh() -> str:
    """A random id of 80 bits, 16 characters."""
    return b32encode(secrets.token_bytes(10)).decode().lower()
