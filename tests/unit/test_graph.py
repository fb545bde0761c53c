from datetime import timedelta
from pathlib import Path
from types import ModuleType

from hocket.agent import Agent
from hocket.host.loader import Service
from hocket.host.manifest import Manifest
from hocket.observe.graph import Edge, graph_of, mermaid
from hocket_schemas.event import Catalog, Event
from hocket_schemas.sagas import Saga

LOCAL = Catalog()


class Asked(Event, type="graph.asked.v1", catalog=LOCAL):
    pass


class Found(Event, type="graph.found.v1", catalog=LOCAL):
    pass


class Answered(Event, type="graph.answered.v1", catalog=LOCAL):
    pass


class Approved(Event, type="graph.approved.v1", catalog=LOCAL):
    pass


class Mumbled(Event, type="graph.mumbled.v1", catalog=LOCAL):
    pass


SAGA = Saga("question", starts=Asked, done=Answered, deadline=timedelta(hours=1))


def service(name: str, takes: type[Event], *gives: type[Event], outside: tuple[str, ...] = ()) -> Service:
    agent = Agent(name)

    @agent.on(takes, emits=gives)
    async def handle(event: Event) -> None:
        pass

    return Service(Path(name), Manifest(name, outside=outside), (agent,), ModuleType(name))


def test_a_type_is_an_edge_between_who_emits_and_who_handles_it() -> None:
    graph = graph_of([service("finder", Asked, Found), service("answerer", Found, Answered)], [SAGA])

    assert graph.agents == ("answerer", "finder")
    assert graph.edges == (
        Edge(None, "finder", "graph.asked.v1"),
        Edge("answerer", None, "graph.answered.v1", ends="question: completed"),
        Edge("finder", "answerer", "graph.found.v1"),
    )


def test_what_nobody_handles_and_what_nobody_emits_are_orphans() -> None:
    graph = graph_of([service("finder", Asked, Mumbled)])

    assert graph.edges == (
        Edge(None, "finder", "graph.asked.v1", orphan=True),
        Edge("finder", None, "graph.mumbled.v1", orphan=True),
    )


def test_what_a_manifest_says_comes_from_outside_is_no_orphan() -> None:
    graph = graph_of([service("publisher", Approved, outside=("graph.approved.v1",))])

    assert graph.edges == (Edge(None, "publisher", "graph.approved.v1"),)


def test_a_graph_is_drawn_with_one_arrow_for_all_types_between_two() -> None:
    graph = graph_of([service("my-finder", Asked, Found, Mumbled), service("end", Found, Answered, Mumbled)], [SAGA])

    assert mermaid(graph) == (
        "flowchart LR\n"
        "    agent_end[end]\n"
        "    agent_my__finder[my-finder]\n"
        "    outside([outside])\n"
        '    saga_question_completed(["question: completed"])\n'
        "    nobody([nobody])\n"
        '    outside -- "graph.asked.v1" --> agent_my__finder\n'
        '    agent_end -- "graph.answered.v1" --> saga_question_completed\n'
        '    agent_end -. "graph.mumbled.v1" .-> nobody\n'
        '    agent_my__finder -. "graph.mumbled.v1" .-> nobody\n'
        '    agent_my__finder -- "graph.found.v1" --> agent_end\n'
        "    linkStyle 2,3 stroke:#c00,color:#c00\n"
    )
