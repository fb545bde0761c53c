"""Killing at the worst moments, on purpose: whom to strike and when, and whether it hit anything."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from hocket.clock import SystemClock
from hocket.demo.account import INTENT, Account, Answer, moment_of
from hocket.demo.stage import Stage
from hocket.errors import NotReady
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Change, Owns
from hocket.observe.history import Entry

EVERYONE = "all services"
SERVER = "nats-server"

STRIKES_PER_SERVICE = 2

OVER_S = 20.0
"""Longest wait for a storm to be over."""

RESTARTS = Restarts(restarts_max=1000, second_s=0.05, factor=1.5, longest_s=0.5)
"""For a crew that is killed on purpose: it is not given up."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something appears in a saga's log."""

    what: str
    """An event's type, or the intent of an effect."""

    nth: int
    """Which of them, from 1."""

    def __str__(self) -> str:
        return f"{self.what} no. {self.nth}"


@dataclass(frozen=True, slots=True)
class Strike:
    """Whom to kill by SIGKILL, and when."""

    target: str
    """A service, `EVERYONE` or `SERVER`."""

    moment: Moment


@dataclass(frozen=True, slots=True)
class Blow:
    """A strike that was carried out."""

    strike: Strike
    killed: tuple[str, ...]
    """Whose process ended: services, or the server."""

    at_ns: int
    """When they were dead, by this machine's clock, which is the server's too; nanoseconds since the Unix epoch."""

    def hit(self, account: Account, services: Mapping[str, str]) -> bool:
        """Whether the dead had work in hand: it was in the log, and its end only after the blow."""
        return any(
            answer.asked_ns <= self.at_ns < answer.answered_ns
            and (self.strike.target == SERVER or services.get(answer.agent) in self.killed)
            for answer in account.answers
        )


def plan(calm: Account, services: Mapping[str, str], rng: random.Random) -> tuple[Strike, ...]:
    """When to strike, after a calm run of the same request.

    Each service is struck when an event appears that one of its agents answered in the calm run, so that it
    has work in hand; while it waits for a person; and in the middle of an effect. All are struck at once early,
    while all of them live; the server whenever there is work.
    """
    moments = _moments(calm)
    work = [moment for answer, moment in moments if answer.kind == "work"]
    strikes = [Strike(EVERYONE, rng.choice(work[: max(1, len(work) // 4)])), Strike(SERVER, rng.choice(work))]
    for service in sorted(set(services.values())):
        own = [(answer.kind, moment) for answer, moment in moments if services.get(answer.agent) == service]
        # Whoever answers nothing is struck while the others work.
        choice = [moment for kind, moment in own if kind == "work"] or work
        chosen = rng.sample(choice, min(STRIKES_PER_SERVICE, len(choice)))
        chosen += [moment for kind, moment in own if kind == "question"]
        effects = [moment for kind, moment in own if kind == "effect"]
        chosen += rng.sample(effects, min(1, len(effects)))
        strikes += [Strike(service, moment) for moment in chosen]
    return tuple(strikes)


def _moments(account: Account) -> list[tuple[Answer, Moment]]:
    """Everything that was in somebody's hands, with the moment at which it began, in log order."""
    nth: Counter[str] = Counter()
    moments = {}
    for seq, what in account.moments:
        nth[what] += 1
        moments[seq] = Moment(what, nth[what])
    answers = sorted(account.answers, key=lambda answer: (answer.seq, answer.agent))
    return [(answer, moments[answer.seq]) for answer in answers]


@dataclass(slots=True)
class Storm:
    """Strikes while a brief is written.

    A strike waits until its target is at work, since killing a process that only starts proves little, and
    until the one that is meant for all of them at once is over.
    """

    stage: Stage
    strikes: tuple[Strike, ...]
    struck: Callable[[Blow], None] = lambda blow: None
    """Called with each blow."""

    blows: list[Blow] = field(default_factory=list)
    """Those that were carried out, in their order."""

    _due: list[Strike] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)
    _dead: set[int] = field(default_factory=set)

    def see(self, entry: Entry) -> None:
        """Something appears in the log."""
        what = moment_of(entry)
        if what is None:
            return
        self._seen[what] += 1
        moment = Moment(what, self._seen[what])
        self._due += [strike for strike in self.strikes if strike.moment == moment]
        self._strike()

    def hear(self, change: Change) -> None:
        """A process comes or goes: who has just come to work is struck if that is due."""
        if isinstance(change, Owns):
            self._strike()

    @property
    def missed(self) -> tuple[Strike, ...]:
        """The strikes that were not carried out, so far."""
        done = {blow.strike for blow in self.blows}
        return tuple(strike for strike in self.strikes if strike not in done)

    async def over(self) -> None:
        """Wait until what is due has struck and everybody is at work again; not for ever."""
        fleet = self.stage.fleet
        with suppress(TimeoutError):
            async with asyncio.timeout(OVER_S):
                while self._due or fleet.missing():
                    fleet.changed.clear()
                    await fleet.changed.wait()

    def _strike(self) -> None:
        for strike in list(self._due):
            if strike.target != EVERYONE and any(other.target == EVERYONE for other in self.missed):
                continue
            victims = self._victims(strike)
            if victims:
                for victim, pid in victims.items():
                    with suppress(NotReady, ProcessLookupError):  # it has died by itself
                        if victim == SERVER:
                            os.kill(pid, signal.SIGKILL)
                        else:
                            self.stage.fleet.kill(victim)
                at_ns = int(SystemClock().now_s() * 1e9)
                self._dead |= set(victims.values())
                self._due.remove(strike)
                self.blows.append(Blow(strike, tuple(victims), at_ns))
                self.struck(self.blows[-1])

    def _victims(self, strike: Strike) -> dict[str, int]:
        """The processes of a target that are at work; empty as long as not all of them are.

        The server counts as at work when everybody is: who starts while it is away is heard of a second late.
        Whoever begins an effect is at work, heard of or not, and not for long.
        """
        target, pids = strike.target, self.stage.fleet.pids
        everybody = set(self.stage.services.values())
        wanted = everybody if target in (EVERYONE, SERVER) else {target}
        missing = {self.stage.services.get(line.partition(" ")[0]) for line in self.stage.fleet.missing()}
        if strike.moment.what.startswith(INTENT):
            missing = set()
        if not wanted <= set(pids) or not wanted.isdisjoint(missing):
            return {}
        found = {service: pids[service] for service in sorted(wanted)}
        if target == SERVER:
            found = {SERVER: self.stage.server.pid}
        return found if self._dead.isdisjoint(found.values()) else {}


@contextmanager
def raging(
    stage: Stage, strikes: Sequence[Strike], struck: Callable[[Blow], None] = lambda blow: None
) -> Iterator[Storm]:
    """A storm for as long as the block lasts; `struck` is called with each blow."""
    storm = Storm(stage, tuple(strikes), struck)
    stage.listeners.append(storm.hear)
    try:
        yield storm
    finally:
        stage.listeners.remove(storm.hear)


__all__ = ["EVERYONE", "RESTARTS", "SERVER", "Blow", "Moment", "Storm", "Strike", "plan", "raging"]
