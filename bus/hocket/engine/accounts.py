"""Draws from the accounts of sagas, for one tenure: a draw is in the run's journal and in the account, or in neither.

An account is a record that the runs of many agents write, each under the condition that it is still as it was read. The
journal entry of a draw and all accounts that it counts in are one append. When another writer was faster nothing of it
is stored, and it is decided anew.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta

from hocket.account import Amounts, Balance, Refusal, draw
from hocket.engine.commit import Committer
from hocket.engine.dispatch import Work
from hocket.engine.handling import Handling, Received, is_own, read
from hocket.engine.journal import Journals
from hocket.engine.limits import of_budget
from hocket.engine.purses import Policies, opening
from hocket.engine.transition import Tenure, Transition
from hocket.errors import AccountLost, MalformedEvent
from hocket.ids import derived
from hocket.log.base import Expect, Log, Message, Write
from hocket.process import Process
from hocket.run import SPEND, Entry
from hocket.spending import label_of, refused
from hocket_schemas import budgets
from hocket_schemas.budgets import Purse

ACCOUNT_KEPT = timedelta(days=400)
"""How long the log keeps an account from which nothing more is drawn."""

MESSAGES_AIM = 300
"""An append of draws is closed when it holds so many."""

WAIT_S = 0.005
"""The longest pause before deciding anew, so that two writers do not keep step."""


@dataclass(slots=True, eq=False)
class _Draw:
    """What one run wants to draw."""

    work: Work
    number: int
    entry: Entry
    purse: Purse
    amounts: Amounts
    forced: bool
    stored: asyncio.Future[Entry] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Accounts:
    """Serves the draws of one tenure's runs, all that wait at once."""

    def __init__(
        self, log: Log, tenure: Tenure, committer: Committer, journals: Journals, handling: Handling, process: Process
    ) -> None:
        self._log = log
        self._tenure = tenure
        self._committer = committer
        self._journals = journals
        self._handling = handling
        self._process = process
        self._asked: deque[_Draw] = deque()
        self._work = asyncio.Event()

    def draw(
        self, work: Work, number: int, entry: Entry, purse: Purse, amounts: Amounts, *, forced: bool
    ) -> asyncio.Future[Entry]:
        """Ask for a draw, under a number in the run's journal; gives the entry as it stands there in the end.

        It has an error if the draw was refused; what is `forced` is not. Whoever asked may be gone by then.
        """
        asked = _Draw(work, number, entry, purse, amounts, forced)
        self._asked.append(asked)
        self._work.set()
        return asked.stored

    async def serve(self) -> None:
        """Draw, and draw again with all that came meanwhile; the owner of the tenure cancels it."""
        while True:
            while not self._asked:
                self._work.clear()
                await self._work.wait()
            group: list[_Draw] = []
            messages = 0
            while self._asked and (not group or messages < MESSAGES_AIM):
                group.append(self._asked.popleft())
                messages += 2 + len(group[-1].purse)
            while not await self._draw(group):
                pause_s = self._process.rng.random() * WAIT_S
                await asyncio.sleep(pause_s)

    async def joining(self, received: Received, policies: Policies) -> Received:
        """The same event with its purse, if it came from outside into a saga that had started."""
        envelope = received.envelope
        if received.purse or envelope.hkhops or is_own(envelope.type):
            return received
        return received._replace(purse=await self._purse_of_start(received, policies))

    async def _purse_of_start(self, received: Received, policies: Policies) -> Purse:
        """What the event drew from that started the saga of this one; nothing, unless it has a budget."""
        names, keys = self._tenure.names, {received.saga, received.key}
        filters = [names.events_of_key(key, event_type) for key in keys for event_type in policies]
        async with aclosing(self._log.scan(filters)) as messages:
            async for message in messages:
                if message.seq >= received.message.seq:
                    break
                try:
                    start = read(message)
                    above = budgets.read(start.hkbudget) if start.hkbudget else ()
                except MalformedEvent:
                    continue
                if (start.correlationid or start.partitionkey) == received.saga:
                    return opening(policies[start.type], received.saga, message.time_ns, above)
        return ()

    async def _draw(self, group: Sequence[_Draw]) -> bool:
        """Decide and append; False when somebody else has drawn in between."""
        subjects = {account.saga: self._tenure.names.account(account.saga) for d in group for account in d.purse}
        found = {saga: await self._log.last(subject) for saga, subject in subjects.items()}
        balances, lost = _balances(group, found)
        if lost:
            group = [each for each in group if not _fails(each, lost)]
        changed: dict[str, Balance] = {}
        entries: list[Entry] = []
        events: dict[str, Write] = {}
        now_ms = int(self._process.clock.now_s() * 1000)
        for each in group:
            own = [balances[account.saga] for account in each.purse]
            drawn = draw(own, self._tenure.agent, each.amounts, now_ms, call=label_of(each.entry), forced=each.forced)
            if isinstance(drawn, Refusal):
                entries.append(refused(each.entry, drawn))
                if not _refused_before(each.work, drawn):
                    told = self._tell(each, drawn)
                    events[told.subject] = told
            else:
                entries.append(each.entry)
                for balance in drawn:
                    balances[balance.account.saga] = changed[balance.account.saga] = balance
        transition = Transition(self._tenure, None, [*events.values()])
        for each, entry in zip(group, entries, strict=True):
            transition.records += self._journals.writes(each.work, [(each.number, entry)])
        for saga, balance in changed.items():
            before = found[saga]
            expect = Expect(subjects[saga], before.seq if before else 0)
            transition.records.append(Write(subjects[saga], balance.to_json(), expect, ACCOUNT_KEPT))
        transition.contested = frozenset(subjects[saga] for saga in changed)
        if not await self._committer.fate_of(transition):
            return False
        for each, entry in zip(group, entries, strict=True):
            each.stored.set_result(entry)
        return True

    def _tell(self, asked: _Draw, refusal: Refusal) -> Write:
        """The event that a draw was refused."""
        received = asked.work.received
        assert received is not None, "only an event that passed the gate spends"
        what = asked.entry.name.removeprefix(f"{asked.entry.kind} ")
        event = of_budget(refusal, agent=self._tenure.agent, event=received.envelope.id, what=what)
        own = received._replace(cause=derived(received.cause, f"{refusal.limit} of {refusal.saga}"))
        return self._handling.told(own, event, 0, saga=refusal.saga)


def _balances(group: Sequence[_Draw], found: Mapping[str, Message | None]) -> tuple[dict[str, Balance], set[str]]:
    """How the accounts of a group stand, and those that nobody can read."""
    balances: dict[str, Balance] = {}
    lost: set[str] = set()
    for account in (account for d in group for account in reversed(d.purse)):
        message = found[account.saga]
        if account.saga not in balances and account.saga not in lost:
            try:
                balances[account.saga] = Balance.from_json(message.data) if message else Balance(account)
            except (ValueError, TypeError, KeyError, AttributeError):
                lost.add(account.saga)
    return balances, lost


def _fails(asked: _Draw, lost: Collection[str]) -> bool:
    """Whether a draw is from an account that nobody can read; then it fails, once and for all."""
    saga = next((account.saga for account in asked.purse if account.saga in lost), None)
    if saga is not None and not asked.stored.done():
        asked.stored.set_exception(AccountLost(f"nobody can read what saga {saga!r} has spent; see its account record"))
        asked.stored.exception()  # seen, even if nobody waits for it any more
    return saga is not None


def _refused_before(work: Work, refusal: Refusal) -> bool:
    """Whether a run has come to the same limit before: one event tells of it, however often it tries."""
    entries = work.doing.entries if work.doing is not None else None
    return any(
        (entry.result["saga"], entry.result["limit"]) == (refusal.saga, refusal.limit)
        for entry in (entries or {}).values()
        if entry.kind == SPEND and entry.error is not None
    )
