"""A whole demo with real processes: calm, refused, stuck, and under attack, always with the same brief."""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from hocket.demo import cast, invariants
from hocket.demo.brief import verify
from hocket.demo.chaos import EVERYONE, RESTARTS, SERVER, Moment, Strike, plan
from hocket.demo.corpus import lay_out
from hocket.demo.play import Decide, Decision, Failed, Played, Published, Stuck, play
from hocket.demo.stage import Stage, set_up
from hocket.demo.trial import attack
from hocket.observe.audit import audit
from hocket.observe.finding import Finding, Severity
from hocket.subjects import Names
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.briefs import BriefRequested, BriefReviewed
from hocket_schemas.documents import DocumentListed
from hocket_schemas.envelope import Envelope

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICES = Path(__file__).parents[2] / "services"
CREW = ("coordinator", "librarian", "planner", "publisher", "researcher", "reviewer", "writer")
DOCUMENTS = 12
ATTEMPTS_MAX = 5
"""How often a blow that came too late is dealt again."""


@dataclass(frozen=True)
class Scene:
    """A crew at work, and a request that it has answered once in peace."""

    stage: Stage
    request: BriefRequested
    calm: Played


async def approve(request: ApprovalRequested) -> Decision:
    return Decision(True, "ann")


async def reject(request: ApprovalRequested) -> Decision:
    return Decision(False, "ann")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    place = tmp_path_factory.mktemp("demo")
    documents = place / "documents"
    documents.mkdir()
    for document in sorted(lay_out(place).iterdir())[:DOCUMENTS]:
        shutil.copy(document, documents)
    request = BriefRequested(folder=str(documents), out=str(place / "out" / "brief.md"))
    async with set_up(place / "home", cast.members(SERVICES), restarts=RESTARTS) as stage:
        yield Scene(stage, request, await play(stage, request, decide=approve))


async def test_each_service_is_a_process_of_its_own(scene: Scene) -> None:
    pids = scene.stage.fleet.pids

    assert tuple(sorted(pids)) == CREW
    assert len({os.getpid(), scene.stage.server.pid, *pids.values()}) == len(CREW) + 2


async def test_a_calm_demo_ends_with_a_brief_that_holds_and_a_log_that_bears_it_out(scene: Scene) -> None:
    ending = scene.calm.ending

    broken = [invariant for invariant in invariants.of_saga(scene.calm) if not invariant.holds]

    assert isinstance(ending, Published)
    assert ending.path == Path(scene.request.out)
    assert ending.problems == ()
    assert ending.sentences >= 10
    assert broken == []
    works = {work.agent: work for work in scene.calm.account.works}
    assert tuple(works) == CREW
    assert works["librarian"].handled == DOCUMENTS + 1
    assert works["librarian"].emitted == 2 * DOCUMENTS + 1
    assert [work.letters for work in works.values()] == [0] * len(CREW)


@pytest.mark.parametrize("service", CREW)
async def test_one_service_killed_with_work_in_hand_changes_nothing(scene: Scene, service: str) -> None:
    strikes = [s for s in plan(scene.calm.account, scene.stage.services, random.Random(1)) if s.target == service]

    trial = await attack(scene.stage, scene.request, scene.calm, strikes)
    for _ in range(ATTEMPTS_MAX):
        if not trial.hits:  # the coordinator, for one, has answered after a few milliseconds
            trial = await attack(scene.stage, scene.request, scene.calm, strikes)

    assert [invariant for invariant in trial.invariants if not invariant.holds] == []
    assert trial.hits, "every blow came too late to hit work in hand"


@pytest.mark.parametrize("nth", [1, DOCUMENTS])
async def test_all_services_killed_at_once_change_nothing(scene: Scene, nth: int) -> None:
    strike = Strike(EVERYONE, Moment("document.listed.v1", nth))

    trial = await attack(scene.stage, scene.request, scene.calm, [strike])

    assert [invariant for invariant in trial.invariants if not invariant.holds] == []
    assert [blow.killed for blow in trial.blows] == [CREW]


@pytest.mark.parametrize("moment", [Moment("document.listed.v1", 3), Moment("question.posed.v1", 1)], ids=str)
async def test_the_server_killed_changes_nothing(scene: Scene, moment: Moment) -> None:
    before = scene.stage.server.pid

    trial = await attack(scene.stage, scene.request, scene.calm, [Strike(SERVER, moment)])

    assert [invariant for invariant in trial.invariants if not invariant.holds] == []
    assert scene.stage.server.pid != before


async def test_a_run_in_which_nothing_was_hit_proves_nothing_and_says_so(scene: Scene) -> None:
    idle = Strike("librarian", Moment("brief.drafted.v1", 1))

    trial = await attack(scene.stage, scene.request, scene.calm, [idle])

    [broken] = [invariant for invariant in trial.invariants if not invariant.holds]
    assert not trial.passed
    assert "VACUOUS" in broken.detail


async def test_a_brief_that_comes_out_different_is_found(scene: Scene, tmp_path: Path) -> None:
    shutil.copytree(scene.request.folder, tmp_path / "documents")
    other = scene.request.model_copy(update={"folder": str(tmp_path / "documents"), "out": str(tmp_path / "b.md")})
    calm = await play(scene.stage, other, decide=approve)
    next((tmp_path / "documents").iterdir()).write_text("This document is not what it was before.\n")

    trial = await attack(scene.stage, other, calm, [Strike("writer", Moment("brief.planned.v1", 1))])

    broken = [invariant.text for invariant in trial.invariants if not invariant.holds]
    assert not trial.passed
    assert "the brief is the same to the last byte, and every citation holds" in broken
    assert (tmp_path / "b.md").exists()


async def test_documents_that_cannot_be_read_are_named_and_the_rest_goes_on(scene: Scene, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    shutil.copytree(scene.request.folder, documents)
    (documents / "dangling.md").symlink_to(tmp_path / "nowhere")
    os.mkfifo(documents / "pipe.md")
    (documents / "picture.txt").write_bytes(b"\x89PNG\0")
    (documents / "secret.md").write_text("Nobody may read this.\n")
    (documents / "secret.md").chmod(0)
    told: list[str] = []
    request = BriefRequested(folder=str(documents), out=str(tmp_path / "brief.md"))

    played = await play(
        scene.stage, request, decide=approve, tell=lambda entry, progress, steps: told.extend(s.text for s in steps)
    )

    assert isinstance(played.ending, Published)
    assert verify(tmp_path / "brief.md", documents) == []
    assert "dangling.md is a broken link" in told
    assert "pipe.md is no regular file" in told
    assert "picture.txt is binary" in told
    # Whoever may read everything reads this too.
    assert ("secret.md may not be read: permission denied" in told) is (os.geteuid() != 0)


@pytest.mark.parametrize("content", [None, b"\0"], ids=["empty", "binary"])
async def test_a_folder_without_text_fails_with_what_to_do(scene: Scene, tmp_path: Path, content: bytes | None) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    if content is not None:
        (documents / "a.md").write_bytes(content)

    request = BriefRequested(folder=str(documents), out=str(tmp_path / "brief.md"))
    played = await play(scene.stage, request, decide=approve)

    assert isinstance(played.ending, Failed)
    assert "choose another folder" in played.ending.reason
    assert not (tmp_path / "brief.md").exists()


async def test_a_brief_that_is_rejected_is_not_written(scene: Scene, tmp_path: Path) -> None:
    request = scene.request.model_copy(update={"out": str(tmp_path / "brief.md")})

    played = await play(scene.stage, request, decide=reject)

    assert isinstance(played.ending, Failed)
    assert played.ending.reason == "ann rejected the brief."
    assert not (tmp_path / "brief.md").exists()


async def test_work_that_stands_still_ends_with_what_is_missing(scene: Scene) -> None:
    planner = scene.stage.fleet.pids["planner"]
    os.kill(planner, signal.SIGSTOP)

    try:
        played = await play(scene.stage, scene.request, decide=approve, work_s=1.0)
    finally:
        os.kill(planner, signal.SIGCONT)

    assert isinstance(played.ending, Stuck)
    assert played.ending.reason == "nothing has come for 1 s: no plan has been made (planner)"


async def test_an_event_that_nobody_can_handle_ends_the_demo_with_its_dead_letter(scene: Scene) -> None:
    played = await play(scene.stage, scene.request, decide=poisoning(scene.stage))

    assert isinstance(played.ending, Stuck)
    assert played.ending.letter is not None
    assert played.ending.letter.agent == "librarian"
    assert "librarian could not handle document.listed.v1" in played.ending.reason


def poisoning(stage: Stage) -> Decide:
    """Approves after an event has been published that the librarian cannot handle, and has become a dead letter."""

    async def decide(request: ApprovalRequested) -> Decision:
        newest = [d.envelope async for d in stage.bus.read(BriefReviewed)][-1]
        assert newest.partitionkey is not None
        names = Names(stage.bus.domain, 0)
        await stage.bus.publish_envelope(
            Envelope(
                id="poison",
                source="/test",
                type=DocumentListed.event_type,
                data={"document": 1},
                partitionkey=newest.partitionkey,
                correlationid=newest.correlationid,
            )
        )
        async with asyncio.timeout(20):
            async for _ in stage.bus.logs[0].scan([names.all_dead], follow=True):
                break
        return Decision(True, "ann")

    return decide


async def test_whatever_was_done_to_the_crew_the_whole_log_is_clean_afterwards(scene: Scene) -> None:
    async with asyncio.timeout(20):
        while errors := await errors_in(scene.stage):
            if not {finding.code for finding in errors} <= {"unfinished", "open-run"}:
                break  # what is unfinished may still be finished, anything else stays

    assert errors == []


async def errors_in(stage: Stage) -> list[Finding]:
    report = await audit(stage.bus, stage.consumes)
    return [finding for finding in report.findings if finding.severity is Severity.ERROR]
