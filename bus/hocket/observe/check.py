"""What can be found wrong with a crew before anything runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hocket.errors import BadManifest, BadService, ManifestMismatch
from hocket.host.loader import Service, load
from hocket.observe.clearing import uncleared
from hocket.observe.finding import Finding, Severity
from hocket.observe.graph import Graph, graph_of
from hocket_schemas.sagas import Saga


def load_all(folders: Iterable[Path]) -> tuple[list[Service], list[Finding]]:
    """Load services; each that cannot be loaded is a finding instead."""
    services: list[Service] = []
    findings: list[Finding] = []
    for folder in folders:
        try:
            services.append(load(folder))
        except BadManifest as error:
            findings.append(Finding(Severity.ERROR, "bad-manifest", folder.name, str(error)))
        except ManifestMismatch as error:
            findings.append(Finding(Severity.ERROR, "manifest-mismatch", folder.name, str(error)))
        except BadService as error:
            findings.append(Finding(Severity.ERROR, "bad-service", folder.name, str(error)))
    return services, findings


def check(services: Sequence[Service], sagas: Sequence[Saga] = ()) -> list[Finding]:
    """Everything that can be said of loaded services: what is broken, what looks so, what is good to know."""
    graph = graph_of(services, sagas)
    return [
        *_same_names(services),
        *_orphans(graph, Severity.NOTE if len(services) == 1 else Severity.WARNING),
        *_idle(services),
        *(_cycle(members, graph) for members in cycles(graph)),
        *uncleared(services),
    ]


def _same_names(services: Sequence[Service]) -> list[Finding]:
    holders: dict[str, list[str]] = {}
    for service in services:
        for agent in service.agents:
            holders.setdefault(agent.name, []).append(service.name)
    return [
        Finding(
            Severity.ERROR,
            "same-name",
            name,
            f"{' and '.join(folders)} both have an agent {name!r}; one of them would never get to work",
        )
        for name, folders in holders.items()
        if len(folders) > 1
    ]


def _orphans(graph: Graph, severity: Severity) -> list[Finding]:
    """Edges into nothing and out of nothing. Of a service on its own they only say what it is connected to."""
    found = []
    for edge in graph.edges:
        if not edge.orphan:
            continue
        if edge.target is None:
            message = f"emits {edge.event}, which nobody here handles and which ends no saga"
            found.append(Finding(severity, "unhandled", edge.source or "", message))
        else:
            message = (
                f"handles {edge.event}, which nobody here emits and which starts no saga; "
                "if it comes from outside, say so in agent.toml: "
                f'outside = ["{edge.event}"]'
            )
            found.append(Finding(severity, "unfed", edge.target, message))
    return found


def _idle(services: Sequence[Service]) -> list[Finding]:
    return [
        Finding(Severity.WARNING, "idle", agent.name, "handles nothing")
        for service in services
        for agent in service.agents
        if not (agent.handlers or agent.schedules)
    ]


def _cycle(members: Sequence[str], graph: Graph) -> Finding:
    inside = sorted({e.event for e in graph.edges if e.source in members and e.target in members})
    return Finding(
        Severity.NOTE,
        "cycle",
        ", ".join(members),
        f"can go round by {', '.join(inside)}; what never ends by itself ends at the hop limit",
    )


def cycles(graph: Graph) -> list[tuple[str, ...]]:
    """Groups of agents that can cause each other's events for ever: each group is as large as it can be."""
    after: dict[str, set[str]] = {agent: set() for agent in graph.agents}
    for edge in graph.edges:
        if edge.source is not None and edge.target is not None:
            after[edge.source].add(edge.target)
    reach = {agent: _reachable(agent, after) for agent in graph.agents}
    groups = {tuple(sorted({a} | {b for b in reach[a] if a in reach[b]})) for a in graph.agents if a in reach[a]}
    return sorted(groups)


def _reachable(start: str, after: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(after[start])
    while waiting:
        agent = waiting.pop()
        if agent not in found:
            found.add(agent)
            waiting += after[agent]
    return found


__all__ = ["check", "cycles", "load_all"]
