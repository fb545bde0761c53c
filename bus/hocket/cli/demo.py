"""The command `demo`: a crew writes a cited brief from a folder of documents, in sight of whoever asked for it."""

import os
import random
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hocket.cli import outcome
from hocket.cli.outcome import DEMO_DATA
from hocket.cli.output import AsJson, print_json, say
from hocket.host import runtime

if TYPE_CHECKING:  # they bring the NATS client, which the other commands need not wait for
    from hocket.cli.telling import Teller
    from hocket.demo.play import Decide
    from hocket.demo.stage import Stage
    from hocket_schemas.approvals import ApprovalRequested
    from hocket_schemas.briefs import BriefRequested

commands = typer.Typer()

EXIT_NO_BRIEF = 1

NAME = "brief.md"
TOPIC_LENGTH_MAX = 500
REFERENCE_TITLE = "The Python language, in the words of its reference"

OUTPUT_LINES = 15
"""Of what the services print, so many lines are shown when they do not come to work."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What somebody wants to see."""

    request: "BriefRequested"
    home: Path
    services: Path | None
    ask: bool
    seed: int | None
    """Of the chaos; None: calm."""

    work_s: float
    as_json: bool
    model: str
    """That writes the brief; empty: it is in the words of the documents."""


_Documents = Annotated[
    Path | None,
    typer.Argument(
        metavar="DOCS",
        exists=True,
        file_okay=False,
        readable=True,
        help="A folder of text, Markdown, reStructuredText or HTML files; otherwise the Python language reference.",
    ),
]
_Topic = Annotated[str, typer.Option(help="What the brief is about; otherwise what the documents say most of.")]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="Where to write brief.md, and index.json beside it.")]
_Chaos = Annotated[bool, typer.Option("--chaos", help="Write it twice, and kill whatever works the second time.")]
_Seed = Annotated[int, typer.Option(help="Of the chaos: whom to strike when.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Approve the brief unseen.")]
_Brief = Annotated[
    Path | None, typer.Option(metavar="BRIEF", help="Write nothing: hold a brief against the documents.")
]
_Data = Annotated[
    Path, typer.Option(metavar="DIR", help="Where the demo keeps its log, which is begun anew beyond 128 MB.")
]
_Services = Annotated[Path | None, typer.Option(metavar="DIR", help="The crew's services, outside of a checkout.")]
_Timeout = Annotated[float, typer.Option(min=1, help="Seconds until you are asked, and again until the end.")]


@commands.command(epilog="Example: hocket demo ~/notes --topic 'how we decide'")
def demo(
    documents: _Documents = None,
    topic: _Topic = "",
    out: _Out = Path(),
    chaos: _Chaos = False,
    seed: _Seed = 1,
    yes: _Yes = False,
    verify: _Brief = None,
    data: _Data = DEMO_DATA,
    services: _Services = None,
    timeout: _Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Write a cited brief from your documents, offline, with a crew of services on a server of its own.

    Every sentence is quoted from a passage that it names; where HOCKET_MODEL names a model, it stands in the model's
    words above the quote that it relies on. You are asked before it is published, unless you say
    --yes. Exit code 0: the brief is there, and every citation was found in its document; with --chaos also that
    nothing was lost or done twice, and that the brief came out the same to the last byte. Exit code 1: not so.
    """
    if verify is not None:
        raise typer.Exit(_verify(verify, documents, data, as_json=as_json))
    if len(topic) > TOPIC_LENGTH_MAX:
        raise typer.BadParameter(f"it has {len(topic)} characters, most are {TOPIC_LENGTH_MAX}", param_hint="--topic")
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter(
            "nobody can be asked to approve the brief here: give --yes, or run it in a terminal", param_hint="--yes"
        )
    model = _model(chaos=chaos)
    try:
        request = _request(documents, topic, out, data)
        _make_room(data)
    except OSError as error:
        raise typer.BadParameter(f"{data} cannot be used: {error}", param_hint="--data") from None
    wish = _Wish(
        request=request,
        home=data,
        services=services,
        ask=not yes,
        seed=seed if chaos else None,
        work_s=timeout,
        as_json=as_json,
        model=model,
    )
    raise typer.Exit(runtime.run(_demo(wish)))


def _model(*, chaos: bool) -> str:
    """What the environment calls the model; the services inherit the environment, and ask it."""
    from hocket_schemas.briefs import MODEL

    model = os.environ.get(MODEL, "")
    if model and find_spec("pydantic_ai") is None:
        raise typer.BadParameter(f"{model!r} cannot be asked without the extra hocket[llm]", param_hint=MODEL)
    if model and chaos:
        raise typer.BadParameter(
            f"the two briefs are compared to the last byte, and {model!r} writes each time anew: unset {MODEL}",
            param_hint="--chaos",
        )
    return model


def _request(documents: Path | None, topic: str, out: Path, home: Path) -> "BriefRequested":
    from hocket.demo.corpus import lay_out
    from hocket_schemas.briefs import BriefRequested

    # Whoever names a Markdown file means that file.
    path = out if out.suffix == ".md" and not out.is_dir() else out / NAME
    return BriefRequested(
        folder=_utf8((documents or lay_out(home)).resolve()),
        out=_utf8(path.resolve()),
        topic=topic,
        title="" if documents or topic else REFERENCE_TITLE,
    )


def _utf8(path: Path) -> str:
    """A path as an event can hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{str(path)!r} is no name in UTF-8; rename it") from None
    return str(path)


def _make_room(home: Path) -> None:
    from hocket.demo.stage import make_room

    freed = make_room(home)
    if freed:
        say(f"the log of earlier demos had {freed / 1e6:.0f} MB: this one begins with an empty log")


async def _demo(wish: _Wish) -> int:
    from hocket.cli.telling import teller
    from hocket.demo import cast, stage
    from hocket.demo.chaos import RESTARTS
    from hocket.errors import NotReady

    tell = teller(as_json=wish.as_json)
    folders = cast.members(cast.find(wish.services))
    tell.say("hocket", f"starts a server and {len(folders)} services, each in a process of its own")
    if wish.model:
        tell.say("hocket", f"the writer asks {wish.model}: sentences in its words, each above the quote it relies on")
    restarts = None if wish.seed is None else RESTARTS
    try:
        async with stage.set_up(wish.home, folders, restarts=restarts) as ready:
            tell.say("hocket", f"all of them are at work, on {ready.server.url}")
            return await _course(wish, ready, tell)
    except NotReady:
        output = wish.home / stage.OUTPUT_NAME
        lines = output.read_text(errors="replace").splitlines() if output.exists() else []
        say("\n".join([f"what the services printed ({output}) ends:", *lines[-OUTPUT_LINES:]]))
        raise


async def _course(wish: _Wish, ready: "Stage", tell: "Teller") -> int:
    """A calm run and, if that is wanted, one under attack."""
    from hocket.demo import chaos
    from hocket.demo.play import Published, play
    from hocket.demo.trial import attack

    agents = sorted(ready.consumes)
    with tell.showing(agents):
        played = await play(ready, wish.request, decide=_decide(wish, tell), tell=tell.see, work_s=wish.work_s)
    trial = None
    if wish.seed is not None and isinstance(played.ending, Published):
        strikes = chaos.plan(played.account, ready.services, random.Random(wish.seed))
        tell.say("hocket", f"the same again, and {len(strikes)} times somebody is killed (seed {wish.seed})")
        with tell.showing(agents):
            trial = await attack(
                ready, wish.request, played, strikes, tell=tell.see, struck=tell.strike, work_s=wish.work_s
            )
        played = trial.stormy
    if wish.as_json:
        print_json(outcome.as_json(played, trial))
    else:
        outcome.print_work(played)
        if trial is not None:
            outcome.print_trial(trial)
        outcome.print_ending(played, wish.request, wish.home)
    fine = isinstance(played.ending, Published) and not played.ending.problems and (trial is None or trial.passed)
    return 0 if fine else EXIT_NO_BRIEF


def _decide(wish: _Wish, tell: "Teller") -> "Decide":
    """Ask whoever sits at the terminal, or nobody."""
    from hocket.cli.telling import asked, preview
    from hocket.demo.play import Decision
    from hocket_schemas.briefs import DECISION

    you = os.environ.get("USER") or "you"

    async def decide(request: "ApprovalRequested") -> Decision:
        if not wish.ask:
            return Decision(True, you, "--yes")
        with tell.paused():
            say(preview(request))
            say(f"Elsewhere: hocket approve {request.approval}")
            answer = await asked(f"{request.question} [y/N] ", DECISION.total_seconds())
        return Decision(answer.strip().lower() in ("y", "yes"), you)

    return decide


def _verify(brief: Path, documents: Path | None, home: Path, *, as_json: bool) -> int:
    """Hold a brief against its documents as they are now; 0 only if all of it holds."""
    from hocket.demo.brief import verify
    from hocket.demo.corpus import folder_in, lay_out

    folder = documents or folder_in(home)
    if documents is None and not folder.exists():
        folder = lay_out(home)
    problems = verify(brief, folder)
    outcome.print_problems(brief, folder, problems, as_json=as_json)
    return EXIT_NO_BRIEF if problems else 0
