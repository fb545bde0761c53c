"""What is said of a trip, and the policy that it is held to."""

import os
from datetime import timedelta

from hocket import Event, Saga


class TripRequested(Event, type="trip.requested.v1"):
    """Somebody wants to go somewhere."""

    route: str
    nights: int = 1


class FlightBooked(Event, type="trip.flight.booked.v1"):
    """There is a seat."""

    cents: int


class HotelBooked(Event, type="trip.hotel.booked.v1"):
    """There is a room."""

    cents: int


class TripBooked(Event, type="trip.booked.v1"):
    """All of it is booked, and paid."""

    cents: int
    receipt: str


class TripRefused(Event, type="trip.refused.v1"):
    """Something of it cannot be had."""

    reason: str


DEADLINE_S = float(os.environ.get("TRIP_DEADLINE_S", 48 * 3600))
TRIP = Saga(
    "trip", starts=TripRequested, done=TripBooked, fails=[TripRefused], deadline=timedelta(seconds=DEADLINE_S)
)  # fmt: skip
