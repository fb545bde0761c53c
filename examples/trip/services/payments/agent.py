"""Reserves the money, asks whether to go, and pays: after that there is only forward."""

from datetime import timedelta

from examples.trip.desks import Booking, Refused, book, cancel, find
from examples.trip.schemas import HotelBooked, TripBooked, TripRefused

from hocket import Agent, Context, Retry, StepFailed

RETRY = Retry(attempts_max=3, never=(Refused,))

payments = Agent("payments")


@payments.effect(retry=RETRY)
async def reserve(trip: str, cents: int, *, key: str) -> Booking:
    return await book("reservations", key, saga=trip, cents=cents)


@reserve.undo
async def release(trip: str, cents: int, booking: Booking | None, *, key: str) -> None:
    await cancel("reservations", key, saga=trip)


@reserve.verify
async def find_reservation(trip: str, cents: int, *, key: str) -> Booking | None:
    return await find("reservations", key)


@payments.effect(retry=RETRY, irreversible=True)
async def pay(trip: str, cents: int, *, key: str) -> Booking:
    return await book("payments", key, saga=trip, cents=cents)


@pay.verify
async def find_payment(trip: str, cents: int, *, key: str) -> Booking | None:
    return await find("payments", key)


@payments.on(HotelBooked)
async def settle(event: HotelBooked, ctx: Context) -> TripBooked | TripRefused:
    try:
        await ctx.step(reserve, ctx.saga, event.cents)
        decision = await ctx.approve("Book this trip?", details={"cents": event.cents}, timeout=timedelta(days=1))
        if not decision.approved:
            return TripRefused(reason=decision.reason or decision.option)
        payment = await ctx.step(pay, ctx.saga, event.cents)
    except StepFailed as error:
        return TripRefused(reason=str(error))
    return TripBooked(cents=event.cents, receipt=payment.ref)
