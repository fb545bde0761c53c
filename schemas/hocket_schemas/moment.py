"""A moment as CloudEvents write it: RFC 3339, checked, and read into Python's terms."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone

_FORM = re.compile(
    r"(?!0000)([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def is_moment(text: str) -> bool:
    """Whether `text` is an RFC 3339 date and time with its offset, on a day that exists. No year 0."""
    match = _FORM.fullmatch(text)
    if match is None:
        return False
    day = match[3]
    return day <= "28" or int(day) <= monthrange(int(match[1]), int(match[2]))[1]


def datetime_of(text: str) -> datetime:
    """The moment with its own offset, to the microsecond. Raises ValueError unless `is_moment(text)`.

    A leap second, which Python has no word for, is taken as the last microsecond of the one before.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is no RFC 3339 date and time")
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    if second == "60":
        second, microsecond = "59", 999_999
    zone = UTC
    if sign and (hours, minutes) != ("00", "00"):
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-offset if sign == "-" else offset)
    return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, tzinfo=zone)


def seconds_of(text: str) -> float:
    """The same as seconds since the Unix epoch. Raises ValueError unless `is_moment(text)`."""
    return datetime_of(text).timestamp()
