"""Identities: derived from causes where the log must recognise work, random where it need not."""

import secrets
from hashlib import blake2b


def cause_of(agent: str, source: str, event_id: str) -> str:
    """The token of one handling: the same whenever, wherever and with whatever outcome it is repeated.

    80 bits of BLAKE2b over agent, source and id, with NUL between them, in hexadecimal: 20 characters. It only
    has to be unique among the handlings of one key by one agent.
    """
    return blake2b(f"{agent}\0{source}\0{event_id}".encode(), digest_size=10).hexdigest()


def derived(cause: str, name: str) -> str:
    """An id that handling the same event again yields again."""
    return blake2b(f"{cause}\0{name}".encode(), digest_size=10).hexdigest()


def fresh() -> str:
    """A random id of 80 bits, 20 hexadecimal characters."""
    return secrets.token_hex(10)
