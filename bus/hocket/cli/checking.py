"""Commands that judge: `check` and `graph` before anything runs, `doctor` while it does."""

import asyncio
import json
import shutil
import urllib.request
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.cli.reach import Domain, Nats, opened, running_place
from hocket.client import Bus
from hocket.errors import BadService, LogError
from hocket.host import health, manifest, runtime
from hocket.host.failures import failures_in
from hocket.host.place import CONFIG, Place, running_here
from hocket.observe.finding import Finding, Severity, worst
from hocket.observe.letters import letters
from hocket.policy import OnExhausted
from hocket.subjects import Names, tokens_of
from hocket_schemas import catalog, sagas

if TYPE_CHECKING:
    from hocket.observe.doctor import Diagnosis, Examined  # brings the NATS client, which only `doctor` needs

commands = typer.Typer()

EXIT_FOUND = 1

MONITOR_S = 3.0
LISTEN_S = 1.5

Services = Annotated[Path, typer.Argument(help="A directory of services, or one service.")]


@commands.command(epilog="Example: hocket check services")
def check(
    services: Services = Path("services"),
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold manifests against code, and look for events that nobody handles and handlers that nobody feeds.

    Nothing is run but the services' imports. Exit code 1: there are errors.
    """
    from hocket.observe.check import check as check_services
    from hocket.observe.check import load_all

    folders = _folders(services)
    catalog.discover()
    loaded, findings = load_all(folders)
    findings += check_services(loaded, sagas.declared())
    if as_json:
        print_json(findings)
    else:
        _print_findings(findings, fine=f"{len(loaded)} services, nothing to complain about")
    bad = worst(findings)
    raise typer.Exit(EXIT_FOUND if bad is Severity.ERROR or (strict and bad is Severity.WARNING) else 0)


@commands.command(epilog="Example: hocket graph services > crew.mmd")
def graph(services: Services = Path("services"), as_json: AsJson = False) -> None:
    """Draw who tells whom what, as a Mermaid flowchart; what leads nowhere is dashed."""
    from hocket.observe.check import load_all
    from hocket.observe.graph import graph_of, mermaid

    catalog.discover()
    loaded, findings = load_all(_folders(services))
    for finding in findings:
        say(f"left out: {finding.message}")
    drawn = graph_of(loaded, sagas.declared())
    if as_json:
        print_json(drawn)
    else:
        print(mermaid(drawn), end="")
    raise typer.Exit(EXIT_FOUND if findings else 0)


@commands.command(epilog="Example: hocket doctor --audit")
def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Warnings and what is unknown count as failed.")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Read the whole log: was anything lost, or handled twice? Best when quiet.")
    ] = False,
    monitor: Annotated[
        str | None, typer.Option("--monitor", metavar="URL", help="The server's monitoring port, http://HOST:8222.")
    ] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Examine a running system: server, streams, clocks, agents, dead letters. Exit code 1: something failed."""
    raise typer.Exit(runtime.run(_doctor(running_place(nats, domain), monitor, audit, strict, as_json)))


async def _doctor(place: Place, monitor: str | None, with_audit: bool, strict: bool, as_json: bool) -> int:
    from hocket.observe.doctor import Verdict, examine_server, judge

    sync = _sync_of(place, monitor)
    examined = await examine_server(place.url, domain=place.domain, sync=sync)
    data = _data_of(place)
    if data is not None:
        with suppress(OSError):
            examined = replace(examined, disk_free=shutil.disk_usage(data).free)
    findings: list[Finding] = []
    if all(stream.settings for stream in examined.streams):
        try:
            async with opened(place) as bus:
                examined = await _listen(examined, bus)
                if with_audit:
                    findings = await _audit(bus, examined, quiet=as_json)
        except LogError as error:
            findings.append(Finding(Severity.ERROR, "unreadable", place.domain, str(error)))
    diagnoses = judge(examined)
    bad = {Verdict.FAILED, Verdict.WARNING, Verdict.UNKNOWN} if strict else {Verdict.FAILED}
    if as_json:
        print_json({"diagnoses": diagnoses, "findings": findings})
    else:
        _print_diagnoses(diagnoses)
        if with_audit or findings:
            print()
            _print_findings(findings, fine="the log bears out what is promised")
    failed = any(diagnosis.verdict in bad for diagnosis in diagnoses)
    return EXIT_FOUND if failed or worst(findings) is Severity.ERROR else 0


async def _listen(examined: "Examined", bus: Bus) -> "Examined":
    """Add what the agents say and what the log holds of them."""
    async with health.listening(bus.logs) as heard:
        await asyncio.sleep(LISTEN_S)
        cards = heard.table(asyncio.get_running_loop().time())
    owned: list[tuple[str, int]] = []
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).owners])) as claims:
            owned += [(tokens_of(claim.subject)[1], shard) async for claim in claims]
    left = [letter async for letter in letters(bus) if letter.status == "open"]
    escalated = sum(letter.then == OnExhausted.ESCALATE for letter in left)
    failures = tuple(await failures_in(bus))
    return replace(
        examined, cards=tuple(cards), owned=tuple(owned), letters=len(left), escalated=escalated, failures=failures
    )


async def _audit(bus: Bus, examined: "Examined", *, quiet: bool) -> list[Finding]:
    from hocket.observe.audit import audit

    catalog.discover()
    ageing = any(catalog.find(name).retention for name in catalog.known())
    report = await audit(bus, {card.agent: card.consumes for card in examined.cards}, ageing=ageing)
    if not quiet:
        say(
            f"audited {report.events} events ({report.emitted} emitted by {report.agents} agents), "
            f"{report.handled} handlings, {report.letters} dead letters, {report.open_letters} of them open"
        )
    return list(report.findings)


def _sync_of(place: Place, monitor: str | None) -> str | None:
    """When the server flushes: as its monitoring port says, or the configuration of the one that runs here."""
    from hocket.observe.doctor import sync_in_config, sync_in_varz

    if monitor is not None:
        try:
            with urllib.request.urlopen(f"{monitor.rstrip('/')}/varz", timeout=MONITOR_S) as answer:
                return sync_in_varz(json.load(answer))
        except (OSError, ValueError) as error:
            say(f"{monitor} does not answer as a nats-server does: {error}")
            return None
    data = _data_of(place)
    try:
        return sync_in_config((data / CONFIG).read_text()) if data else None
    except OSError:
        return None


def _data_of(place: Place) -> Path | None:
    """Where the server keeps its log, if `hocket up` runs it here."""
    running = running_here()
    return Path(running.data) if running and running.nats == place.url and running.data else None


def _folders(services: Path) -> list[Path]:
    """The services, and what was perhaps meant to be one: a folder that has only one of the two files."""
    halves = [path.parent for path in services.glob("*/agent.*") if path.name in (manifest.FILE, manifest.CODE)]
    folders = sorted({*manifest.services_in(services), *halves})
    if not folders:
        raise BadService(f"{services} is no service and holds none: a service has agent.py and agent.toml")
    return folders


def _print_findings(findings: list[Finding], *, fine: str) -> None:
    rows = ((finding.severity, finding.code, finding.where, finding.message) for finding in findings)
    print_table(("severity", "finding", "where", "what"), rows, empty=fine)


def _print_diagnoses(diagnoses: "list[Diagnosis]") -> None:
    rows = ((diagnosis.verdict, diagnosis.what, diagnosis.detail) for diagnosis in diagnoses)
    print_table(("verdict", "what", "detail"), rows, empty="nothing was examined")
