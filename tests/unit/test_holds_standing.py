"""Words about holds: which of them stands, of all that the log has."""

import pytest

from hocket.engine.holds import Holds, Standing
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Event
from hocket_schemas.holds import HoldLifted, HoldPlaced

BY_ADA = HoldPlaced(key="k", by="ada")
FOR_A_LETTER = HoldPlaced(key="k", by="worker", letter="one")


@pytest.mark.parametrize(
    ("words", "stands"),
    [
        ([BY_ADA, HoldLifted(key="k", by="bob")], None),
        ([BY_ADA, HoldLifted(key="k", by="bob"), BY_ADA], BY_ADA),
        ([FOR_A_LETTER, HoldLifted(key="k", by="worker", letter="one")], None),
        ([FOR_A_LETTER, HoldLifted(key="k", by="worker", letter="another")], FOR_A_LETTER),
        ([FOR_A_LETTER, BY_ADA, HoldLifted(key="k", by="worker", letter="one")], BY_ADA),
        ([HoldLifted(key="k", by="worker", letter="one")], None),
    ],
    ids=["lifted", "placed again", "for its letter", "for another letter", "of a person since", "nothing"],
)
def test_what_stands_follows_from_the_newest_word_whenever_older_ones_are_heard_again(
    words: list[Event], stands: Event | None
) -> None:
    async def live() -> tuple[Standing | None, Standing | None]:
        holds = Holds("worker", heeds=True)
        async with Bed() as bed:
            for word in words:
                await bed.publish(word, key="k")
            heard = bed.server.since(1, [f"{bed.names.root}.evt.>"], len(words))
        for message in heard:
            holds.hear(message)
        before = holds.covering("k", "s")
        for message in heard[:-1]:
            holds.hear(message)
        return before, holds.covering("k", "s")

    before, after = run_virtual(live())

    assert before == after
    assert (after and after.word) == stands
