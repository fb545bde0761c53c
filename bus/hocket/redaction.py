"""What nobody is to read in the log: rules that take it out of results, records and errors before they are stored."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from traceback import format_exception_only
from typing import Any

import orjson
from pydantic_core import from_json

from hocket.errors import HocketError

Rule = Callable[[str], str]
"""Gives a text back without what it looks for, and whole if it is not there. What it puts in must not fit it again."""


class RedactedFailure(HocketError):
    """A failure that told what nobody is to read, and of a kind that cannot be changed.

    Its message begins with the type of the failure, and goes on with the redacted message.
    """


def secret(name: str, value: str) -> Rule:
    """A rule about one value, such as a key that the process was started with."""
    # As it is, and as it stands in JSON within a text.
    forms = sorted({value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}, key=len, reverse=True)

    def rule(text: str) -> str:
        for form in forms:
            text = text.replace(form, _mark(name))
        return text

    return rule


def pattern(name: str, expression: str, *, flags: int = 0) -> Rule:
    """A rule about whatever an expression finds; of one with a group of the name `value`, that group alone."""
    compiled = re.compile(expression, flags)
    grouped = "value" in compiled.groupindex

    def replaced(found: re.Match[str]) -> str:
        if not grouped:
            return _mark(name)
        begin, end = found.start("value") - found.start(), found.end("value") - found.start()
        return f"{found[0][:begin]}{_mark(name)}{found[0][end:]}"

    return lambda text: compiled.sub(replaced, text)


def _mark(name: str) -> str:
    return f"[redacted: {name}]"


def _checks(digits: str) -> bool:
    """Whether a row of digits has the checksum of a card's number (ISO/IEC 7812)."""
    doubled = [int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def _cards(text: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        digits = re.sub(r"\D", "", found[0])
        return _mark("card number") if _checks(digits) else found[0]

    return re.sub(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?!\w|\.\d)", replaced, text)


COMMON: tuple[Rule, ...] = (
    pattern("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", flags=re.S),
    pattern("token", r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"),
    pattern("api key", r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"),
    pattern("api key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\b(?:hf|npm)_[A-Za-z0-9]{20,}"),
    pattern("token", r"\bgh[oprsu]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bxox[a-z]-[\w-]{10,}"),
    pattern("credentials", r"\b(?:bearer|basic)\s+(?P<value>[A-Za-z0-9._~+/=-]{8,})", flags=re.I),
    pattern("password", r"://[^/\s:@\"']*:(?P<value>[^/\s@\"'\[]+)@"),
    pattern(
        "secret",
        r"\b\w*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key)\\?[\"']?\s*[:=]\s*\\?[\"']?"
        r"(?P<value>[^\s\"'\\,;(){}<>\[\]]{4,})",
        flags=re.I,
    ),
    pattern("e-mail", r"(?<![\w.+-])[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    _cards,
)
"""What looks like a credential, an address or a card wherever it stands. They miss what has no form of its own, such as
a password in a sentence: name it by `secret`."""

MEMBERS = frozenset(
    {
        "password",
        "passwd",
        "passphrase",
        "secret",
        "client_secret",
        "token",
        "access_token",
        "refresh_token",
        "id_token",
        "api_key",
        "apikey",
        "private_key",
        "authorization",
    }
)
"""Names of members of JSON whose text is taken out whatever it is."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Rules, applied one after the other to every text."""

    rules: tuple[Rule, ...] = COMMON
    members: frozenset[str] = MEMBERS

    def text(self, text: str) -> str:
        """A text without what nobody is to read."""
        for rule in self.rules:
            text = rule(text)
        return text

    def value(self, told: Any) -> Any:
        """The same for all texts in JSON, names of members among them. What is no JSON is left as it is."""
        if isinstance(told, str):
            return self.text(told)
        if isinstance(told, dict):
            return {self._name(name): self._member(name, value) for name, value in told.items()}
        if type(told) in (list, tuple):
            return type(told)(map(self.value, told))
        return told

    def json(self, body: bytes) -> bytes:
        """The same for JSON as it is stored."""
        told = from_json(body)
        shown = self.value(told)
        return body if shown == told else orjson.dumps(shown)

    def failure(self, failure: BaseException) -> BaseException:
        """A failure that tells nothing more, nor does what caused it: the same if it can be changed, else another."""
        failure.args = self.value(failure.args)
        for name, said in list(vars(failure).items()):
            if type(said) in (str, list, dict, tuple):
                vars(failure)[name] = self.value(said)
        cause, context, suppressed = failure.__cause__, failure.__context__, failure.__suppress_context__
        failure.__cause__ = failure.__context__ = None  # off while they are gone through: a chain may come back here
        if cause is not None:
            failure.__cause__ = self.failure(cause)
        if context is not None:
            # `raise … from` names one twice: to go both ways would double the work at each link.
            failure.__context__ = failure.__cause__ if context is cause else self.failure(context)
        failure.__suppress_context__ = suppressed
        parts = failure.exceptions if isinstance(failure, BaseExceptionGroup) else ()
        told = "".join(format_exception_only(failure))
        if self.text(told) == told and all(self.failure(part) is part for part in parts):
            return failure
        return RedactedFailure(f"{type(failure).__name__}: {self.text(str(failure))}")

    def _name(self, name: Any) -> Any:
        return self.text(name) if isinstance(name, str) else name

    def _member(self, name: Any, value: Any) -> Any:
        if isinstance(name, str) and isinstance(value, str) and name.lower() in self.members:
            return _mark(name.lower())
        return self.value(value)


_CURRENT: ContextVar[Redaction | None] = ContextVar("_CURRENT", default=None)


@contextmanager
def redacting(redaction: Redaction | None) -> Iterator[None]:
    """Redact all that is remembered of what happens inside, and the failure that it ends with."""
    if redaction is None:
        yield
        return
    token = _CURRENT.set(redaction)
    try:
        yield
    except Exception as failure:
        shown = redaction.failure(failure)
        if shown is failure:
            raise
        raise shown from None
    finally:
        _CURRENT.reset(token)


def as_stored(body: bytes) -> bytes:
    """JSON as it may be stored here."""
    redaction = _CURRENT.get()
    return body if redaction is None else redaction.json(body)


def text_as_stored(text: str) -> str:
    """A text as it may be stored here."""
    redaction = _CURRENT.get()
    return text if redaction is None else redaction.text(text)


__all__ = ["COMMON", "MEMBERS", "RedactedFailure", "Redaction", "Rule", "pattern", "redacting", "secret"]
