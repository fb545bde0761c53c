"""What a process says of itself while it works: one line for each thing, as text or as JSON, on stderr."""

import logging
import sys
from typing import Any, Final, Literal

import orjson

from hocket.clock import rfc3339
from hocket.telemetry import LOG

Form = Literal["text", "json"]

TOLD_BY_THE_SUPERVISOR: Final = frozenset({"owns", "released"})
"""What need not be said twice: the supervisor hears it in the heartbeats."""


class TextLines(logging.Formatter):
    """`20:15:01 dead letter agent=greeter shard=0 …`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a stack or traceback below it if there is one."""
        time = rfc3339(record.created)[11:19]
        named = dict(_fields(record))
        stack = named.pop("stack", "")
        fields = " ".join(f"{name}={_shown(value)}" for name, value in named.items())
        line = f"{time} {record.getMessage()} {fields}".rstrip()
        if stack:
            line = f"{line}\n{stack.rstrip()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is one of its fields."""
        line: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def to_stderr(form: Form, *, hidden: frozenset[str] = frozenset()) -> None:
    """Show hocket's own lines from INFO on, everybody else's from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(lambda record: record.getMessage() not in hidden)
    logging.getLogger().addHandler(handler)
    LOG.setLevel(logging.INFO)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or " " in text or "\n" in text else text


__all__ = ["TOLD_BY_THE_SUPERVISOR", "Form", "JsonLines", "TextLines", "to_stderr"]
