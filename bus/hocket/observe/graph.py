"""Who tells whom what: the crew as a graph of agents and event types, and as a drawing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hocket.host.loader import Service
from hocket_schemas.sagas import Saga

RUNTIME_TYPES = "hocket."
"""Types that begin so are the runtime's own."""

TOLD = "whoever asks"
"""Where the runtime's own facts end: nobody need handle them."""


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One event type on its way from one agent to another."""

    source: str | None
    """The agent that emits it; None: it comes from outside."""

    target: str | None
    """The agent that handles it; None: nobody does."""

    event: str
    ends: str | None = None
    """What it ends, such as `brief: failed`."""

    orphan: bool = False
    """Whether nobody is known for one of its ends: nobody handles it, or nobody would publish it."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A crew, drawn from what its services declare."""

    agents: tuple[str, ...]
    edges: tuple[Edge, ...]


def graph_of(services: Sequence[Service], sagas: Sequence[Saga] = ()) -> Graph:
    """The graph of a crew. Sagas tell what comes from outside and what may end unhandled."""
    agents = sorted({agent.name for service in services for agent in service.agents})
    emitters: dict[str, set[str]] = {}
    handlers: dict[str, set[str]] = {}
    outside = {saga.starts.event_type for saga in sagas}
    followers: set[str] = set()
    for service in services:
        outside |= set(service.manifest.outside)
        if service.manifest.follows_sagas:
            followers |= {agent.name for agent in service.agents}
        for agent in service.agents:
            for event in agent.emits:
                emitters.setdefault(event, set()).add(agent.name)
            for event in agent.consumes:
                handlers.setdefault(event, set()).add(agent.name)
    endings = {saga.done.event_type: f"{saga.name}: completed" for saga in sagas}
    endings |= {event.event_type: f"{saga.name}: failed" for saga in sagas for event in saga.fails}
    edges: set[Edge] = set()
    for event in {*emitters, *handlers}:
        sources, targets = emitters.get(event, set()), handlers.get(event, set())
        edges |= {Edge(source, target, event, endings.get(event)) for source in sources for target in targets}
        if event in outside:
            edges |= {Edge(None, target, event) for target in targets}
        elif not sources:
            # Whoever follows every saga also follows those of other crews, whose events are not emitted here.
            edges |= {Edge(None, target, event, orphan=True) for target in targets - followers}
        if not targets:
            ends = endings.get(event) or (TOLD if event.startswith(RUNTIME_TYPES) else None)
            edges |= {Edge(source, None, event, ends, orphan=ends is None) for source in sources}
    return Graph(tuple(agents), tuple(sorted(edges, key=_order)))


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart; orphans are dashed and red."""
    lines = ["flowchart LR"]
    lines += [f"    {_id(agent)}[{agent}]" for agent in graph.agents]
    if any(edge.source is None for edge in graph.edges):
        lines.append("    outside([outside])")
    ends = sorted({edge.ends for edge in graph.edges if edge.target is None and edge.ends})
    lines += [f'    {_end_id(end)}(["{end}"])' for end in ends]
    if any(edge.target is None and edge.orphan for edge in graph.edges):
        lines.append("    nobody([nobody])")
    orphans = []
    for number, ((source, target, orphan), events) in enumerate(_bundles(graph).items()):
        lines.append(
            f'    {source} {"-." if orphan else "--"} "{"<br/>".join(events)}" {".->" if orphan else "-->"} {target}'
        )
        if orphan:
            orphans.append(str(number))
    if orphans:
        lines.append(f"    linkStyle {','.join(orphans)} stroke:#c00,color:#c00")
    return "\n".join(lines) + "\n"


def _bundles(graph: Graph) -> dict[tuple[str, str, bool], list[str]]:
    """The event types between two nodes on one arrow."""
    bundles: dict[tuple[str, str, bool], list[str]] = {}
    for edge in graph.edges:
        source = "outside" if edge.source is None else _id(edge.source)
        bundles.setdefault((source, _target(edge), edge.orphan), []).append(edge.event)
    return bundles


def _target(edge: Edge) -> str:
    if edge.target is not None:
        return _id(edge.target)
    return _end_id(edge.ends) if edge.ends else "nobody"


def _order(edge: Edge) -> tuple[str, str, str]:
    return edge.source or "", edge.target or "", edge.event


def _id(agent: str) -> str:
    """A node's id: Mermaid takes no dashes, and has words of its own such as `end`."""
    return "agent_" + agent.replace("-", "__")


def _end_id(ending: str) -> str:
    return "saga_" + re.sub(r"[^A-Za-z0-9]+", "_", ending)


__all__ = ["Edge", "Graph", "graph_of", "mermaid"]
