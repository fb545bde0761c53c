"""The root of every error, and what the contracts refuse.

HocketError
└── ContractError               a contract was declared or used wrongly
    ├── DuplicateType           two classes claim one event type
    ├── BadSaga                 a saga policy contradicts itself
    ├── DuplicateSaga           two policies claim one saga name, or one starting event
    ├── SchemasMissing          a module of schemas is named and cannot be found
    └── MalformedEvent          bytes that are no acceptable event
        ├── MissingAttribute    a required attribute is absent or empty
        ├── BadAttribute        an attribute has a name or value that CloudEvents or hocket forbids
        ├── NotAnEvent          the body is no JSON object, or no UTF-8, or holds NaN
        ├── UnsupportedFormat   the content type names a mode or format that the gate does not read
        ├── TooDeep             JSON nested deeper than the gate reads
        ├── TooLarge            more bytes than the limit
        ├── TooMany             more attributes, or more objects and arrays, than the limit
        ├── UnknownType         no class is known for the event's type
        └── DataRefused         the data cannot be read, or does not fit its schema
"""

QUOTED_MAX = 80
"""Longest quotation of what somebody else wrote, in characters: an error is no way to smuggle a payload."""


class HocketError(Exception):
    """Anything that hocket refuses or cannot do; catch this to catch all of it."""


class ContractError(HocketError):
    """A contract was declared or used wrongly."""


class DuplicateType(ContractError):
    """Two classes claim one event type.

    Give one of them another type, or a higher version.
    """

    def __init__(self, event_type: str, first: str, second: str) -> None:
        super().__init__(f"event type {event_type!r} is declared by {first} and again by {second}")
        self.event_type = event_type


class BadSaga(ContractError):
    """A saga policy contradicts itself; the message says in what."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"saga {quoted(name)}: {reason}")
        self.name = name


class SchemasMissing(ContractError):
    """A module that should declare events cannot be found.

    Start from the directory that it is in, or install it.
    """

    def __init__(self, module: str, variable: str) -> None:
        super().__init__(f"{variable} names {module!r}, and there is no such module, here or installed")
        self.module = module


class DuplicateSaga(ContractError):
    """Two policies claim one saga name, or one starting event.

    A saga is told from another by its name, and what an event starts must be one saga: rename one of
    them, or let it start with an event of its own.
    """

    def __init__(self, what: str, first: str, second: str) -> None:
        super().__init__(f"{what} belongs to saga {first!r} and again to saga {second!r}")


class MalformedEvent(ContractError):
    """Bytes that are no acceptable event; they are dead-lettered, never retried.

    Mend the publisher: the message names what is wrong and where.
    """


class MissingAttribute(MalformedEvent):
    """A required CloudEvents attribute is absent or empty."""

    def __init__(self, name: str) -> None:
        super().__init__(f"required attribute {name!r} is missing or empty")
        self.name = name


class BadAttribute(MalformedEvent):
    """An attribute has a name or a value that CloudEvents or hocket forbids."""

    def __init__(self, name: str, value: object, wants: str) -> None:
        super().__init__(f"attribute {quoted(name)} is {quoted(value)}, wants {wants}")
        self.name = name
        self.value = value


class NotAnEvent(MalformedEvent):
    """The body is no JSON object, is not UTF-8, or holds what JSON has no word for, such as NaN."""


class UnsupportedFormat(MalformedEvent):
    """The content type names a mode or format that the gate does not read.

    Send one event a message, as `application/cloudevents+json` or in binary mode.
    """

    def __init__(self, content_type: str) -> None:
        super().__init__(f"content type {quoted(content_type)} is not read, wants application/cloudevents+json")
        self.content_type = content_type


class TooDeep(MalformedEvent):
    """JSON nested deeper than the gate reads."""

    def __init__(self, depth_max: int) -> None:
        super().__init__(f"JSON is nested deeper than {depth_max} levels")
        self.depth_max = depth_max


class TooLarge(MalformedEvent):
    """More bytes than the limit; put large data elsewhere and its address and digest in the event."""

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"event is {size} bytes, the limit is {size_max}")
        self.size = size
        self.size_max = size_max


class TooMany(MalformedEvent):
    """More of something than one event may hold; split the event, or put the data elsewhere."""

    def __init__(self, what: str, count: int, count_max: int) -> None:
        super().__init__(f"event has {count} {what}, the limit is {count_max}")
        self.count = count
        self.count_max = count_max


class UnknownType(MalformedEvent):
    """No class is known for the event's type.

    Import the module that declares it, or correct the type.
    """

    def __init__(self, event_type: str) -> None:
        super().__init__(f"no event class is declared for type {quoted(event_type)}")
        self.event_type = event_type


class DataRefused(MalformedEvent):
    """The data cannot be read, or does not fit its schema; the message lists each field and what is wrong."""

    def __init__(self, event_type: str, reasons: str) -> None:
        super().__init__(f"data of {quoted(event_type)} is refused: {reasons}")
        self.event_type = event_type
        self.reasons = reasons


def quoted(value: object) -> str:
    """Show a value as Python writes it, cut to `QUOTED_MAX` characters."""
    if isinstance(value, str | bytes):
        value = value[: QUOTED_MAX + 1]  # so that a megabyte is not escaped for the sake of one line
    text = repr(value)
    return text if len(text) <= QUOTED_MAX else f"{text[: QUOTED_MAX - 3]}..."
