"""What runs did, in words: for whoever reads a history, or asks why."""

from collections.abc import Mapping, Sequence
from typing import Any

from hocket.approval import APPROVE, DENY
from hocket.cli.output import clock_time, print_table, short
from hocket.observe.deeds import Handling
from hocket.observe.history import Remembered, RunHead
from hocket.run import APPROVAL, ATTEMPTS, BEGUN, DONE, EFFECT, NOTICE, PARKED, SLEEP, VOID, WAIT

NAME_LENGTH_MAX = 40


def print_handlings(handlings: Sequence[Handling]) -> None:
    """Print what agents did with events, one thing a line."""
    print_table(
        ("agent", "on", "did", "what", "took", "outcome"),
        (
            (handling.agent, handling.event_type, deed.kind, named(deed), took(deed), outcome(deed))
            for handling in handlings
            for deed in handling.did
        ),
        empty="nothing is remembered",
    )


def named(deed: Remembered) -> str:
    """Its name without its kind, from the second of its name on with its number."""
    text = short(deed.name.removeprefix(f"{deed.kind} "), NAME_LENGTH_MAX)
    return f"{text} #{deed.occurrence + 1}" if deed.occurrence and deed.kind != ATTEMPTS else text


def took(deed: Remembered) -> str:
    """How long it took; empty while it goes on."""
    return f"{deed.took_s:.3f} s" if deed.phase == DONE and deed.took_s else ""


def outcome(deed: Remembered) -> str:
    """What became of it, or how far it has come; and what attempts had failed with before."""
    return "; before: ".join([_outcome(deed), *deed.failures])


def _outcome(deed: Remembered) -> str:
    if deed.error is not None:
        return f"failed: {deed.error}"
    if deed.kind == EFFECT and deed.phase != DONE:
        return _OPEN_EFFECTS[deed.phase].format(key=deed.word, arguments=short(deed.arguments))
    if deed.kind == SLEEP:
        return _until("sleeps", deed.until)
    if deed.kind == APPROVAL:
        return _decision(deed.result) if deed.phase == DONE else _until("asked", deed.until)
    if deed.kind == WAIT:
        return short(deed.result.get("data")) if deed.phase == DONE else _until("waits", deed.until)
    if deed.kind == ATTEMPTS:
        return "; ".join(f"{clock_time(each['at'])} {each['error']}" for each in deed.result)
    if deed.kind == NOTICE:
        return "; ".join(f"{name}: {', '.join(listed)}" for name, listed in deed.result.items() if listed)
    return short(deed.result)


_OPEN_EFFECTS: Mapping[str, str] = {
    BEGUN: "begun, with {arguments}",
    PARKED: "nobody knows whether it happened: hocket resolve {key}",
    VOID: "did not happen",
}


_VERBS = {APPROVE: "approved", DENY: "denied"}


def _decision(result: Any) -> str:
    """`approved by ann: cheap enough`, `expired`; of an option with a name of its own, that."""
    by = f" by {', '.join(result['by'])}" if result["by"] else ""
    edited = f", edited: {short(result['details'])}" if result["edited"] else ""
    reason = f": {result['reason']}" if result["reason"] else ""
    return f"{_VERBS.get(result['option'], result['option'])}{by}{reason}{edited}"


def waiting_for(head: RunHead) -> str:
    """What an open run is at."""
    if head.parked:
        return head.parked
    if head.approval:
        return _until(f"asks: {head.approval['question']}", head.until)
    if head.waits or head.until:
        return _until(f"waits for {', '.join(head.waits)}" if head.waits else "sleeps", head.until)
    return "at work"


def _until(text: str, moment: str | None) -> str:
    return f"{text} until {clock_time(moment)}" if moment else text


__all__ = ["named", "outcome", "print_handlings", "took", "waiting_for"]
