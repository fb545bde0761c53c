"""The root of every error, and what the contracts refuse.

HocketError
└── ContractError               a contract was declared or used wrongly
    ├── DuplicateType           two classes claim one event type
    └── MalformedEvent          bytes that are no acceptable event
        ├── MissingAttribute    a required attribute is absent or empty
        ├── BadAttribute        an attribute has a value that CloudEvents or hocket forbids
        ├── NotAnEvent          the body is no JSON object, or no UTF-8, or holds NaN
        ├── TooDeep             JSON nested deeper than the gate reads
        ├── TooLarge            more bytes than the limit
        ├── UnknownType         no class is known for the event's type
        └── DataRefused         the data does not fit its schema
"""


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
    """An attribute has a value that CloudEvents or hocket forbids."""

    def __init__(self, name: str, value: object, wants: str) -> None:
        super().__init__(f"attribute {name!r} is {_short(value)}, wants {wants}")
        self.name = name
        self.value = value


class NotAnEvent(MalformedEvent):
    """The body is no JSON object, is not UTF-8, or holds what JSON has no word for, such as NaN."""


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


class UnknownType(MalformedEvent):
    """No class is known for the event's type.

    Import the module that declares it, or correct the type.
    """

    def __init__(self, event_type: str) -> None:
        super().__init__(f"no event class is declared for type {event_type!r}")
        self.event_type = event_type


class DataRefused(MalformedEvent):
    """The data does not fit its schema; the message lists each field and what is wrong with it."""

    def __init__(self, event_type: str, reasons: str) -> None:
        super().__init__(f"data of {event_type!r} is refused: {reasons}")
        self.event_type = event_type


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
