"""The command `hocket`: finds what is asked for, runs it, and turns what goes wrong into a sentence and a code."""

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer

import hocket.cli
from hocket.errors import (
    BadCopy,
    BadManifest,
    BadService,
    DomainInUse,
    HocketError,
    LogError,
    MalformedEvent,
    ManifestMismatch,
    NotFound,
    NothingRuns,
    NotReady,
    OutcomeUnknown,
    Unavailable,
)

EXIT_WORKED: Final = 0
EXIT_BAD_NEWS: Final = 1
"""It ran, and the answer is no: a check failed, no answer came in time."""

EXIT_REFUSED: Final = 2
"""It could not be done: the message says why, and what to try next."""

EXIT_USAGE: Final = 64
"""The command line itself is wrong. As in sysexits.h."""

EXIT_BUG: Final = 70
"""Something happened that hocket did not foresee. As in sysexits.h."""

EXIT_INTERRUPTED: Final = 130
"""Ctrl-C."""

_NEXT: Final[tuple[tuple[type[HocketError], str], ...]] = (
    (NothingRuns, "hocket up"),
    (NotReady, "hocket agents"),
    (NotFound, "hocket sagas"),
    (ManifestMismatch, "hocket check"),
    (BadManifest, "hocket check"),
    (BadService, "hocket check"),
    (BadCopy, "hocket verify FILE"),
    (DomainInUse, "hocket agents"),
    (OutcomeUnknown, "the same again with the same --id: it is stored at most once"),
    (Unavailable, "hocket doctor"),
    (LogError, "hocket doctor"),
    (MalformedEvent, "hocket publish --help"),
)

_CODES = """
Exit codes: 0 it worked. 1 it ran and the answer is no (a check failed, no answer in time). 2 it could not be
done, the message says why. 64 the command line is wrong. 70 a bug of hocket's. 130 interrupted.
"""


def main() -> None:
    """Run the command line of this process."""
    sys.path.append(os.getcwd())  # last, so that a project's own contracts are found and nothing is shadowed
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit code."""
    debug = "--debug" in arguments
    command = typer.main.get_command(application())
    try:
        code = command.main([a for a in arguments if a != "--debug"], prog_name="hocket", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_WORKED
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_WORKED
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except _usage_error() as error:
        error.show()  # type: ignore[attr-defined]  # of the class that Typer took from click, wherever it keeps it
        return EXIT_USAGE
    except Exception as error:  # noqa: BLE001 - around a process: whatever it is becomes a sentence and a code
        if debug:
            traceback.print_exc()
        return max(_report(leaf, debug=debug) for leaf in _leaves(error))


def application() -> typer.Typer:
    """The commands of all modules in this package."""
    app = typer.Typer(
        name="hocket",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Durable choreography for crews of AI agents.",
        epilog=_CODES,
    )
    app.callback()(_global)
    for found in pkgutil.iter_modules(hocket.cli.__path__):
        if found.name != "main":
            commands = getattr(importlib.import_module(f"{hocket.cli.__name__}.{found.name}"), "commands", None)
            if isinstance(commands, typer.Typer):
                app.add_typer(commands)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from hocket import __version__

        print(f"hocket {__version__}")
        raise typer.Exit


def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that every command has."""


def _report(error: BaseException, *, debug: bool) -> int:
    """Say what went wrong; return the code for it."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, HocketError):
        print(f"hocket: {error}", file=sys.stderr)
        hint = next((hint for kind, hint in _NEXT if isinstance(error, kind)), None)
        if hint:
            print(f"try: {hint}", file=sys.stderr)
        return EXIT_REFUSED
    print(f"hocket: unforeseen {type(error).__name__}: {error}", file=sys.stderr)
    if not debug:
        print("try: the same with --debug, and report what it shows", file=sys.stderr)
    return EXIT_BUG


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors of a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _usage_error() -> type[Exception]:
    """What Typer raises for a command line that is wrong; its home has moved between Typer's versions."""
    return next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


if __name__ == "__main__":
    main()
