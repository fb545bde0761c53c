"""Books a flight, and cancels it if nothing comes of the trip."""

from examples.trip.desks import Booking, Refused, book, cancel, find
from examples.trip.schemas import FlightBooked, TripRefused, TripRequested

from hocket import Agent, Context, Retry, StepFailed

flights = Agent("flights")


@flights.effect(retry=Retry(attempts_max=3, never=(Refused,)))
async def book_flight(trip: str, route: str, *, key: str) -> Booking:
    return await book("flights", key, saga=trip, cents=19_900, details={"route": route})


@book_flight.undo
async def cancel_flight(trip: str, route: str, booking: Booking | None, *, key: str) -> None:
    await cancel("flights", key, saga=trip)


@book_flight.verify
async def find_flight(trip: str, route: str, *, key: str) -> Booking | None:
    return await find("flights", key)


@flights.on(TripRequested)
async def fly(event: TripRequested, ctx: Context) -> FlightBooked | TripRefused:
    try:
        booking = await ctx.step(book_flight, ctx.saga, event.route)
    except StepFailed as error:
        return TripRefused(reason=str(error))
    return FlightBooked(cents=booking.cents)
