"""RFC 3339, read into Python's terms."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from hocket_schemas.moment import datetime_of, is_moment, seconds_of


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.5z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-01-31T12:00:00+01:30", datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(minutes=90)))),
        ("2026-01-31T12:00:00-08:00", datetime(2026, 1, 31, 20, tzinfo=UTC).astimezone(timezone(timedelta(hours=-8)))),
        ("2026-01-31T12:00:00-00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_to_the_microsecond(text: str, moment: datetime) -> None:
    assert is_moment(text)
    assert datetime_of(text) == moment
    assert datetime_of(text).utcoffset() == moment.utcoffset()


def test_a_moment_counts_from_the_epoch() -> None:
    assert seconds_of("1970-01-02T01:00:00.25+01:00") == 86_400.25


@pytest.mark.parametrize("text", ["9999-12-31T23:59:60-23:59", "0001-01-01T00:00:00+23:59"])
def test_the_ends_of_the_calendar_are_still_moments(text: str) -> None:
    assert is_moment(text)
    assert isinstance(seconds_of(text), float)


@pytest.mark.parametrize("text", ["", "soon", "2026-02-30T00:00:00Z"])
def test_what_is_no_moment_is_not_read(text: str) -> None:
    assert not is_moment(text)
    with pytest.raises(ValueError, match=r"RFC 3339|day"):
        datetime_of(text)
