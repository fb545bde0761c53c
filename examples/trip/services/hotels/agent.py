"""Books a room, and cancels it if nothing comes of the trip."""

from examples.trip.desks import Booking, Refused, book, cancel, find
from examples.trip.schemas import FlightBooked, HotelBooked, TripRefused, TripRequested

from hocket import Agent, Context, Retry, StepFailed

hotels = Agent("hotels")


@hotels.effect(retry=Retry(attempts_max=3, never=(Refused,)))
async def book_room(trip: str, nights: int, *, key: str) -> Booking:
    return await book("hotels", key, saga=trip, cents=8_900 * nights)


@book_room.undo
async def cancel_room(trip: str, nights: int, booking: Booking | None, *, key: str) -> None:
    await cancel("hotels", key, saga=trip)


@book_room.verify
async def find_room(trip: str, nights: int, *, key: str) -> Booking | None:
    return await find("hotels", key)


@hotels.on(FlightBooked)
async def stay(event: FlightBooked, ctx: Context) -> HotelBooked | TripRefused:
    [request] = await ctx.history(TripRequested)
    try:
        booking = await ctx.step(book_room, ctx.saga, request.nights)
    except StepFailed as error:
        return TripRefused(reason=str(error))
    return HotelBooked(cents=event.cents + booking.cents)
