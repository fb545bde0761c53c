"""Which subjects are under some filters, as a server would say."""

import re
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=1024)
def matching(filters: tuple[str, ...]) -> Callable[[str], bool]:
    """Tells which subjects are under any of some filters, with NATS wildcards `*` and `>`."""
    exact: set[str] = set()
    above: set[str] = set()
    inner: list[str] = []
    for pattern in filters:
        head, _, last = pattern.rpartition(".")
        if "*" in head or last == ">":
            inner.append(pattern)
        elif last == "*":
            above.add(head)
        else:
            exact.add(pattern)

    inside = _compiled(tuple(inner)).fullmatch if inner else None

    def matches(subject: str) -> bool:
        if subject in exact or (above and subject.rpartition(".")[0] in above):
            return True
        return inside is not None and inside(subject) is not None

    return matches


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    tokens = ([_TOKENS.get(token) or re.escape(token) for token in pattern.split(".")] for pattern in patterns)
    return re.compile("|".join(map(r"\.".join, tokens)))


_TOKENS = {"*": r"[^.]+", ">": r".+"}
