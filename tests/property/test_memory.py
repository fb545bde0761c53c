"""Whatever is said in whatever order, recall is what a fold of the log says, as of any position."""

import random
from dataclasses import dataclass, field

import pytest

from hocket.memory import Memory, Question
from hocket.memory.forgetting import forget
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Event
from hocket_schemas.memory import Disputed, Remembered, Retracted, Superseded
from hocket_schemas.runtime import SagaCancelled, SagaCompensated, SagaCompleted, SagaFailed

SAGAS = [f"saga-{n}" for n in range(6)]
SUBJECTS = ["ada", "bob", "eve"]
EVENTS_MAX = 120


@dataclass(frozen=True)
class Said:
    """One event as the model knows it."""

    seq: int
    id: str
    saga: str
    event: Event


@dataclass
class Model:
    """All that was said, and who was forgotten."""

    said: list[Said] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)

    @property
    def facts(self) -> list[str]:
        return [each.id for each in self.said if isinstance(each.event, Remembered | Superseded)]

    def standing(self, upto: int) -> dict[str, list[str]]:
        """The texts that stand at a position, by subject; each with its doubts."""
        said = [each for each in self.said if each.seq <= upto]
        aborted: set[str] = set()
        for each in said:
            match each.event:
                case SagaFailed() | SagaCancelled() | SagaCompensated():
                    aborted.add(each.event.saga)
                case SagaCompleted():
                    aborted.discard(each.event.saga)
        counting = [each for each in said if each.saga not in aborted]
        ended = {each.event.fact for each in counting if isinstance(each.event, Superseded | Retracted)}
        doubts: dict[str, str] = {}
        for each in counting:
            if isinstance(each.event, Disputed):
                doubts[each.event.fact] = doubts.get(each.event.fact, "") + f" ({each.event.reason})"
        found: dict[str, list[str]] = {about: [] for about in SUBJECTS}
        for each in counting:
            if isinstance(each.event, Remembered | Superseded) and each.id not in ended:
                found[each.event.about].append(each.event.text + doubts.get(each.id, ""))
        return {about: [] if about in self.forgotten else texts for about, texts in found.items()}


def anything(rng: random.Random, model: Model, n: int) -> Event:
    saga, about = rng.choice(SAGAS), rng.choice(SUBJECTS)
    fact = rng.choice(model.facts or ["none"])
    return rng.choice(
        [
            *[Remembered(text=f"fact {n}", about=about)] * 6,
            *[Superseded(fact=fact, text=f"newer {n}", about=about)] * 3,
            *[Retracted(fact=fact)] * 2,
            Disputed(fact=fact, reason=f"doubt {n}"),
            SagaFailed(name="s", saga=saga, ended_by="e", failure="f"),
            SagaCancelled(name="s", saga=saga, by="ann"),
            SagaCompensated(name="s", saga=saga, reason="r"),
            *[SagaCompleted(name="s", saga=saga, ended_by="e")] * 2,
        ]
    )


@pytest.mark.parametrize("seed", range(2))
def test_recall_as_of_any_position_is_a_fold_of_the_log(seed: int) -> None:
    rng = random.Random(seed)

    async def live() -> None:
        model = Model()
        async with Bed() as bed:
            memory = Memory()

            async def agree(upto: int) -> None:
                for about, wanted in model.standing(upto).items():
                    found = await memory.ask(bed.bus, Question(about=about, most=999), as_of=(upto,))
                    texts = [each.text + "".join(f" ({doubt})" for doubt in each.disputed) for each in reversed(found)]
                    assert texts == wanted, f"about {about} as of {upto}"

            for n in range(EVENTS_MAX):
                event = anything(rng, model, n)
                of_saga = getattr(event, "saga", "")
                told = await bed.publish(event, key=of_saga or "k", saga=of_saga or rng.choice(SAGAS))
                model.said.append(Said(told.seq, told.id, told.saga, event))
                if rng.random() < 0.1:
                    await agree(rng.randint(1, told.seq))
            await forget(bed.bus, "bob", by="ann")
            model.forgotten.add("bob")
            for upto in rng.sample(range(1, EVENTS_MAX), 5):
                await agree(upto)
            grown = await memory.digest(bed.bus)
            await memory.rebuild(bed.bus)
            assert await memory.digest(bed.bus) == grown

    run_virtual(live())
