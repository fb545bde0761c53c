"""What a model knew when it answered: recorded beside its answer, and found again by whoever asks why."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import ToolReturn
from tests.unit.scripted import Answered, Case, Put, Script, breaks, call

from hocket import Agent, Context
from hocket.blob import Blob
from hocket.cli.lineage import print_calls, print_origins
from hocket.cli.output import print_json
from hocket.errors import UsageError
from hocket.llm import Choice, Durable, Keep, Passage, Template, ask_model, found
from hocket.llm.prompts import Made
from hocket.observe.lineage import Call, content_of, origins_in
from hocket.observe.why import Chain, why
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event
from hocket_schemas.lineage import ContextItem

CURSOR = Passage("p1", "The cursor says how far an agent has come.", "notes/cursor.md:3")
CLAIM = Passage("p2", "A claim makes one instance the owner of an agent.", "notes/claim.md:9")
LONG = Passage("p3", "x" * 4000, "notes/long.md:1")
MEMORY = Passage("m7", "They prefer short answers.", "asked on Monday", kind="memory")
TEMPLATE = Template("answer", "2", "Answer {question} from these:\n{passages}")


class Asking:
    """A handler that asks a model, once it has answered; and what can be found out about it afterwards."""

    def __init__(self, answer: Callable[[Context], Awaitable[str]]) -> None:
        self.case = Case(answer)

    def play(self, look: Callable[[Bed, Chain], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with Bed(self.case.crew) as bed:
                await bed.publish(Put(), key="k")
                await bed.quiet()
                assert bed.dead(self.case.crew) == []
                [answered] = [delivery.envelope.id async for delivery in bed.bus.read(Answered)]
                return await look(bed, await why(bed.bus, answered))

        return run_virtual(main())

    def calls(self) -> list[Call]:
        async def look(bed: Bed, chain: Chain) -> list[Call]:
            return list(chain.calls)

        found: list[Call] = self.play(look)
        return found


def about(asked: Asked[Any, Any], prompt: Any, fail: Callable[[], None] = lambda: None, **options: Any) -> Asking:
    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, prompt, **options)
        fail()
        return str(result.output)

    return Asking(answer)


def kinds(call: Call) -> list[str]:
    return [item.kind for item in call.made.context]


def test_a_call_is_recorded_with_template_context_and_what_was_left_out() -> None:
    asked = Asked(Script("done").model, name="asked", instructions="Be brief.", model_settings={"temperature": 0.5})
    prompt = TEMPLATE.filled(question="why", passages=Choice.within(30, [CURSOR, CLAIM, LONG, MEMORY]))

    [one] = about(asked, prompt, breaks(2)).calls()

    made = one.made
    assert made.template is not None
    assert (made.template.name, made.template.version, len(made.template.variables)) == ("answer", "2", 64)
    assert (made.agent, made.parameters) == ("asked", {"temperature": 0.5})
    assert kinds(one) == ["instructions", "user-prompt"]
    assert [(item.id, item.kind, item.source) for item in made.context[-1].items] == [
        ("p1", "passage", "notes/cursor.md:3"),
        ("p2", "passage", "notes/claim.md:9"),
    ]
    assert [(item.id, item.reason) for item in made.left_out] == [
        ("p3", "beyond 30 tokens"),
        ("m7", "beyond 30 tokens"),
    ]
    assert made.tokens_estimated == sum(item.tokens for item in made.context)
    assert ": model.request" in one.step


def test_what_was_in_the_window_is_kept_once_by_its_content() -> None:
    script = Script([call("look", x=1)], [call("look", x=2)])
    asked = Asked(script.model, name="asked", instructions="Be brief.")

    @asked.tool_plain
    async def look(x: int) -> ToolReturn:
        return found([CURSOR, MEMORY] if x == 1 else CLAIM)

    async def look_at(bed: Bed, chain: Chain) -> None:
        first, _, last = chain.calls
        assert kinds(last) == [
            "tools",
            "instructions",
            *["user-prompt", "answer", "tool-return", "answer", "tool-return"],
        ]
        assert [[item.id for item in part.items] for part in last.made.context[4::2]] == [["p1", "m7"], ["p2"]]
        kept = [item for item in last.made.context if item.kept]
        assert [item.kind for item in last.made.context if not item.kept] == ["answer", "answer"]
        assert first.made.output == last.made.context[3].digest, "an answer is named as its call names it"
        texts = [(await content_of(bed.bus, 0, "crew", item)).decode() for item in kept]
        assert texts[1] == "Be brief."
        assert "go" in texts[2]
        assert CURSOR.text in texts[3]
        pieces = bed.server.since(1, [f"{bed.names.root}.blob.>"], 1000)
        assert len(pieces) == len({item.digest for item in kept})

    about(asked, "go", breaks(1)).play(look_at)


def test_the_same_prompt_has_the_same_digest_in_another_run() -> None:
    def digest() -> str:
        return about(Asked(Script("done").model, name="asked"), "go").calls()[0].made.prompt

    assert digest() == digest()


@pytest.mark.parametrize(
    ("keep", "records", "pieces"), [(Keep.CONTENTS, 1, 1), (Keep.RECORD, 1, 0), (Keep.NOTHING, 0, 0)]
)
def test_less_can_be_kept(keep: Keep, records: int, pieces: int) -> None:
    asked = Asked(Script("done").model, name="asked", capabilities=[Durable(keep=keep)])

    async def look_at(bed: Bed, chain: Chain) -> tuple[int, int]:
        return len(chain.calls), len(bed.server.since(1, [f"{bed.names.root}.blob.>"], 1000))

    assert about(asked, "go").play(look_at) == (records, pieces)


def test_record_and_contents_come_in_the_append_of_the_answer() -> None:
    async def look_at(bed: Bed, chain: Chain) -> list[str]:
        [one] = chain.calls
        return [m.subject.split(".")[2] for m in bed.server.history if m.seq in range(one.seq, one.seq + 3)]

    assert about(Asked(Script("done").model, name="asked"), "go").play(look_at) == ["jrn", "blob", "cur"]


def test_a_window_larger_than_is_kept_is_named_and_a_large_record_found_again() -> None:
    asked = Asked(Script("done").model, name="asked")
    many = [Passage(f"p{i}", f"Passage {i}.", f"notes/{i}.md:{i}" * 40) for i in range(900)]

    [one] = about(asked, [TEMPLATE.filled(question="all", passages=many), "y" * 9_000_000]).calls()

    assert len(one.made.context[0].items) == 900
    assert not one.made.context[0].kept


class Sentences(Event, type="lineage.sentences.v1", catalog=Catalog()):
    sentences: list[dict[str, Any]]


def test_each_piece_of_an_event_names_its_call_template_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    asked, writer = Asked(Script("done").model, name="asked"), Agent("writer")

    @writer.on(Put)
    async def write(event: Put, ctx: Context) -> Sentences:
        result = await ask_model(ctx, asked, TEMPLATE.filled(question="why", passages=[CURSOR, CLAIM]))
        origin = {"inquiry": result.run_id, "items": ["p2", "p9"]}
        return Sentences(sentences=[{"text": "One.", "origin": origin}, {"text": "Two."}])

    async def main() -> Chain:
        async with Bed(writer) as bed:
            await bed.publish(Put(), key="k")
            await bed.quiet()
            [said] = [delivery.envelope.id async for delivery in bed.bus.read(Sentences)]
            return await why(bed.bus, said)

    chain = run_virtual(main())

    [traced] = chain.origins
    assert (traced.path, traced.text, traced.template) == ("sentences.0", "One.", "answer@2")
    assert [(item.id, item.source) for item in traced.items] == [("p2", "notes/claim.md:9")]
    assert traced.unknown == ("p9",), "what the model says that it has, and has not had"
    assert traced.steps == (chain.calls[0].step,)
    assert origins_in(chain.facts[:1], chain.calls) == []
    print_calls(chain.calls)
    print_origins(chain.origins)
    print_json(chain)
    told = " ".join(capsys.readouterr().out.split())
    assert f"One. {chain.calls[0].step} answer@2" in told
    assert "p2, p9 (not in its window) notes/claim.md:9" in told
    assert '"version": "2"' in told


def test_a_template_that_is_not_filled_is_refused() -> None:
    with pytest.raises(UsageError, match="'passages'"):
        TEMPLATE.filled(question="why")


def test_a_prompt_shows_its_passages_with_their_ids() -> None:
    prompt = TEMPLATE.filled(question="why", passages=[CURSOR, MEMORY])

    assert prompt.content == (
        "Answer why from these:\n[p1] The cursor says how far an agent has come.\n\n[m7] They prefer short answers."
    )
    assert Made.of(orjson.loads(orjson.dumps(prompt.metadata))) == Made.of(prompt.metadata)
    assert Made.of({"hocket": "something else"}) == Made() == Made.of(None)


def test_an_item_is_named_by_the_text_that_it_had() -> None:
    item = CURSOR.item()

    assert item == ContextItem(
        id="p1",
        kind="passage",
        tokens=11,
        digest=Blob.of(CURSOR.text.encode()).digest,
        size=42,
        source="notes/cursor.md:3",
    )
