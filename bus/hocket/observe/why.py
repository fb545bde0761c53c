"""Why an event is there: the chain of causes back to the one that came from outside."""

from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from hocket.client import Bus, Delivery
from hocket.errors import NotFound
from hocket.forgotten import in_its_place
from hocket.ids import cause_of
from hocket.observe.deeds import Handled, Handling, deeds
from hocket.observe.fact import Fact, fact_of
from hocket.observe.letters import FILTERS_MAX, DeadLetter, letters_about
from hocket.observe.lineage import Call, Traced, calls_in, origins_in
from hocket.subjects import Names, address, tokens_of
from hocket_schemas.cancels import CancelRequested, RunCancelled

CHAIN_MAX = 1000
"""Longest chain that is followed; redriving may join several of the hop limit's length."""

FOLLOWERS_MAX = 5000
"""Most events whose consequences are looked for."""


@dataclass(frozen=True, slots=True)
class Chain:
    """How an event came about, and what became of it."""

    facts: tuple[Fact, ...]
    """From the trigger to the event that was asked about."""

    missing: str | None
    """The id of the cause that the log no longer holds; None: the chain is complete."""

    led_to: tuple[Fact, ...]
    """What followed from the event, directly or not, in log order."""

    letters: tuple[DeadLetter, ...]
    """Dead letters about the chain's events and about what followed, in log order."""

    handlings: tuple[Handling, ...]
    """What agents remember of handling these events on the way, in log order: steps, effects, approvals."""

    calls: tuple[Call, ...] = ()
    """The calls of models among that, each with what it knew."""

    origins: tuple[Traced, ...] = ()
    """Where the pieces of the newest event come from that says so for its pieces: the event itself, or one before."""


async def why(bus: Bus, event_id: str) -> Chain:
    """The chain of an event. Raises NotFound when the log has no such event."""
    facts = [fact_of(await bus.find(event_id))]
    missing = None
    while facts[0].cause is not None and len(facts) < CHAIN_MAX:
        try:
            facts.insert(0, fact_of(await bus.find(facts[0].cause)))
        except NotFound:
            missing = facts[0].cause
            break
    letters = await letters_about(
        bus, facts[-1].shard, [(f.id, f.key) for f in facts[:-1] if f.shard == facts[-1].shard]
    )
    led_to, more = await _consequences(bus, facts[-1])
    led_to = sorted([*led_to, *await _ended_by(bus, facts[-1])], key=lambda fact: fact.seq)
    letters = sorted([*letters, *more], key=lambda letter: letter.seq)
    handlings = await deeds(bus, facts[-1].shard, await _handled(bus, facts, led_to))
    calls = await calls_in(bus, facts[-1].shard, handlings)
    origins = origins_in(facts, calls)
    return Chain(tuple(facts), missing, tuple(led_to), tuple(letters), tuple(handlings), tuple(calls), tuple(origins))


async def _handled(bus: Bus, chain: Sequence[Fact], led_to: Sequence[Fact]) -> list[Handled]:
    """Who handled what on the way: whoever emitted one of the events; and anybody who may have handled the last."""
    last = chain[-1]
    by_id = {fact.id: fact for fact in (*chain, *led_to) if fact.shard == last.shard}
    emitted = (fact for fact in (*chain, *led_to) if fact.to is None)
    handled = [
        (fact.publisher, by_id[fact.cause]) for fact in emitted if fact.cause is not None and fact.cause in by_id
    ]
    return [*handled, *((agent, last) for agent in await _agents(bus, last.shard))]


async def _consequences(bus: Bus, fact: Fact) -> tuple[list[Fact], list[DeadLetter]]:
    """What followed from an event, also by way of dead letters that were sent again; and these letters."""
    led_to: list[Fact] = []
    letters: list[DeadLetter] = []
    waiting = [fact]
    while waiting and len(led_to) < FOLLOWERS_MAX:
        fact = waiting.pop()
        after = await followers(bus, fact)
        died = await letters_about(bus, fact.shard, [(f.id, f.key) for f in (fact, *after)])
        for letter in died:
            if letter.fate is not None and letter.fate.redriven_as is not None:
                with suppress(NotFound):
                    waiting.append(fact_of(await bus.find(letter.fate.redriven_as)))
        led_to += [*after, *waiting]
        letters += died
    return sorted({f.seq: f for f in led_to}.values(), key=lambda f: f.seq), letters


async def _ended_by(bus: Bus, request: Fact) -> list[Fact]:
    """The ends of runs that a request to cancel has brought about. They follow from what these runs handled."""
    if request.type != CancelRequested.event_type:
        return []
    ends = [fact_of(delivery) async for delivery in bus.read(RunCancelled) if delivery.shard == request.shard]
    return [end for end in ends if isinstance(end.data, dict) and end.data.get("request") == request.id]


async def followers(bus: Bus, fact: Fact) -> list[Fact]:
    """What followed from an event, directly or not, in log order.

    Nothing in the log points forward, but where an agent's answer stands follows from the event that it
    answers: so every agent that has ever owned the shard is asked for its answer, by subject.
    """
    log, names = bus.logs[fact.shard], Names(bus.domain, fact.shard)
    agents = await _agents(bus, fact.shard)
    found: dict[int, Fact] = {}
    asked = [fact]
    while asked and len(found) < FOLLOWERS_MAX:
        filters = [names.caused(agent, cause_of(agent, each.source, each.id)) for each in asked for agent in agents]
        asked = []
        for first in range(0, len(filters), FILTERS_MAX):
            async with aclosing(log.scan(filters[first : first + FILTERS_MAX])) as messages:
                async for stored in messages:
                    message = in_its_place(stored)
                    if message.seq not in found:
                        follower = fact_of(Delivery(message, fact.shard, address(message.subject)))
                        found[message.seq] = follower
                        asked.append(follower)
    return [found[seq] for seq in sorted(found)]


async def _agents(bus: Bus, shard: int) -> list[str]:
    """Every agent that has ever owned the shard."""
    async with aclosing(bus.logs[shard].scan([Names(bus.domain, shard).owners])) as claims:
        return [tokens_of(claim.subject)[1] async for claim in claims]


__all__ = ["Chain", "followers", "why"]
