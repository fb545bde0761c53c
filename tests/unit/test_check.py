import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType

from hocket.agent import Agent, Context
from hocket.host import manifest
from hocket.host.loader import Service
from hocket.host.manifest import Manifest
from hocket.observe.check import check, cycles, load_all
from hocket.observe.finding import Finding
from hocket.observe.graph import Edge, Graph
from hocket_schemas.event import Catalog, Event
from hocket_schemas.sagas import Saga

ROOT = Path(__file__).parents[2]
LOCAL = Catalog()


class Asked(Event, type="check.asked.v1", catalog=LOCAL):
    pass


class Drafted(Event, type="check.drafted.v1", catalog=LOCAL):
    pass


class Returned(Event, type="check.returned.v1", catalog=LOCAL):
    pass


class Answered(Event, type="check.answered.v1", catalog=LOCAL):
    pass


class SagaTold(Event, type="hocket.told.v1", catalog=LOCAL):
    pass


SAGA = Saga("check", starts=Asked, done=Answered, deadline=timedelta(hours=1))


def service(name: str, takes: list[type[Event]], gives: list[type[Event]], *, folder: str = "") -> Service:
    agent = Agent(name)
    for event in takes:

        @agent.on(event, emits=gives)
        async def handle(event: Event) -> None:
            pass

    return Service(Path(folder or name), Manifest(name), (agent,), ModuleType(name))


WRITER = service("writer", [Asked, Returned], [Drafted])
REVIEWER = service("reviewer", [Drafted], [Returned, Answered])


def said(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.severity.value, finding.code, finding.where) for finding in findings]


def test_a_crew_whose_events_all_arrive_has_only_its_cycle_noted() -> None:
    findings = check([WRITER, REVIEWER], [SAGA])

    assert said(findings) == [("note", "cycle", "reviewer, writer")]
    assert "check.drafted.v1, check.returned.v1" in findings[0].message


def test_without_the_saga_both_ends_hang_in_the_air() -> None:
    findings = check([WRITER, REVIEWER])

    assert said(findings) == [
        ("warning", "unfed", "writer"),
        ("warning", "unhandled", "reviewer"),
        ("note", "cycle", "reviewer, writer"),
    ]


def test_of_a_service_on_its_own_loose_ends_are_only_noted() -> None:
    findings = check([WRITER])

    assert said(findings) == [("note", "unfed", "writer"), ("note", "unfed", "writer"), ("note", "unhandled", "writer")]


def test_what_the_runtime_says_need_not_be_handled() -> None:
    findings = check([WRITER, service("coordinator", [Drafted], [SagaTold, Returned])], [SAGA])

    assert said(findings) == [("note", "cycle", "coordinator, writer")]


def test_two_agents_of_one_name_are_an_error() -> None:
    findings = check([service("writer", [Asked], [], folder="a"), service("writer", [Asked], [], folder="b")], [SAGA])

    assert said(findings) == [("error", "same-name", "writer")]
    assert "a and b" in findings[0].message


def test_an_agent_that_handles_nothing_is_suspicious() -> None:
    findings = check([service("idler", [], [])])

    assert said(findings) == [("warning", "idle", "idler")]


def test_cycles_are_as_large_as_they_can_be() -> None:
    pairs = ["ab", "bc", "ca", "cd", "dd", "ef"]
    graph = Graph(tuple("abcdef"), tuple(Edge(pair[0], pair[1], "x.y.v1") for pair in pairs))

    assert cycles(graph) == [("a", "b", "c"), ("d",)]


def test_a_service_that_cannot_be_loaded_is_a_finding_and_the_others_are_loaded(tmp_path: Path) -> None:
    for name, code, toml in (
        ("good", "from hocket.agent import Agent\nagent = Agent('good')", "name = 'good'"),
        ("broken", "1 / 0", "name = 'broken'"),
        ("other", "from hocket.agent import Agent\nagent = Agent('another')", "name = 'other'"),
        ("odd", "", "name = 1"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.py").write_text(code)
        (tmp_path / name / "agent.toml").write_text(toml)

    services, findings = load_all(manifest.services_in(tmp_path))

    assert [service.name for service in services] == ["good"]
    assert said(findings) == [
        ("error", "bad-service", "broken"),
        ("error", "bad-manifest", "odd"),
        ("error", "manifest-mismatch", "other"),
    ]
    assert "ZeroDivisionError" in findings[0].message


def test_whoever_follows_sagas_need_not_be_fed_here() -> None:
    follower = service("coordinator", [Answered], [])
    follower = replace(follower, manifest=replace(follower.manifest, follows_sagas=True))

    assert said(check([WRITER, service("other", [Drafted], [Returned]), follower], [SAGA])) == [
        ("note", "cycle", "other, writer")
    ]


def test_the_crew_that_comes_along_has_nothing_worse_than_notes() -> None:
    program = [sys.executable, "-m", "hocket.cli.main", "check", str(ROOT / "services"), "--strict", "--json"]

    checked = subprocess.run(program, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout
    assert {finding["severity"] for finding in json.loads(checked.stdout)} <= {"note"}


def posting(*, asks_first: bool = False, passes_on: bool = False) -> Service:
    """A service that does what nothing can undo."""
    agent = Agent("poster")

    @agent.effect(irreversible=True)
    async def post() -> None:
        """Nothing undoes it."""

    async def think(ctx: Context) -> None:
        """Perhaps it asks somebody."""

    async def at_once(event: Drafted, ctx: Context) -> None:
        await ctx.step(post)

    async def when_asked(event: Drafted, ctx: Context) -> None:
        if (await ctx.approve("Post it?")).approved:
            await ctx.step(post)

    async def after_thought(event: Drafted, ctx: Context) -> None:
        await think(ctx)
        await ctx.step(post)

    agent.on(Drafted)(when_asked if asks_first else after_thought if passes_on else at_once)
    return Service(Path("poster"), Manifest("poster"), (agent,), ModuleType("poster"))


def asking() -> Service:
    """A service whose drafts somebody has approved of."""
    agent = Agent("asker")

    @agent.on(Asked)
    async def ask(event: Asked, ctx: Context) -> Drafted:
        await ctx.approve("Draft it?")
        return Drafted()

    return Service(Path("asker"), Manifest("asker"), (agent,), ModuleType("asker"))


def uncleared(*services: Service) -> list[tuple[str, str, str]]:
    return [found for found in said(check(services, [SAGA])) if found[1] == "uncleared"]


def test_what_nothing_can_undo_wants_an_approval_on_every_way_to_it() -> None:
    writer = service("writer", [Asked], [Drafted])

    assert uncleared(writer, posting()) == [("error", "uncleared", "poster")]
    assert uncleared(writer, posting(asks_first=True)) == []
    assert uncleared(asking(), posting()) == []


def test_where_the_code_does_not_tell_it_is_a_warning() -> None:
    writer = service("writer", [Asked], [Drafted])

    assert uncleared(writer, posting(passes_on=True)) == [("warning", "uncleared", "poster")]
    assert uncleared(writer, asking(), posting()) == [("warning", "uncleared", "poster")]
    assert uncleared(posting()) == [("warning", "uncleared", "poster")]
