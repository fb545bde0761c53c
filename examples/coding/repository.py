"""The repository that the crew works on: read as of a commit, and changed by one commit for each task.

`CODING_REPOSITORY` is its folder. A task's commit bears the effect's idempotency key as a trailer, so that it can be
found whoever made it and whatever became of him. It stands on what is checked out, and is made aside: before it is
complete, neither the branch nor the work tree has changed.
"""

import difflib
import fcntl
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from tempfile import TemporaryDirectory

GIT_S = 60.0
"""The longest that one command of git may take."""

MADE = "Hocket-Key"
TAKEN_BACK = "Hocket-Taken-Back"
REFUSED = "refs/hocket/refused"
"""Below it a key stands whose commit must not come any more."""

CREW = ("-c", "user.name=coding crew", "-c", "user.email=crew@localhost", "-c", "core.quotepath=off")


class Refused(Exception):
    """It cannot be merged as it is, now or later, and nothing was done."""


class BuiltUpon(Exception):
    """It cannot be taken back: others have changed it since, or use it. A person has to look."""


def head() -> str:
    """The commit that is checked out."""
    return _git("rev-parse", "HEAD").strip()


def paths(commit: str) -> list[str]:
    """All Python files in it."""
    return [path for path in _git("ls-tree", "-r", "--name-only", commit).splitlines() if path.endswith(".py")]


def read(commit: str, path: str) -> str | None:
    """A file's text; None: there is no such file."""
    listed = _git("ls-tree", commit, "--", path)
    return _git("cat-file", "blob", listed.split()[2]) if listed else None


def diff(commit: str, files: Mapping[str, str]) -> str:
    """What changes when these files replace those of a commit. Leaves no trace in the repository."""
    found = []
    for path, text in sorted(files.items()):
        before = read(commit, path)
        names = ("/dev/null" if before is None else f"a/{path}", f"b/{path}")
        lines = difflib.unified_diff((before or "").splitlines(), text.splitlines(), *names, lineterm="")
        found += [f"{line}\n" for line in lines]
    return "".join(found)


def merge(files: Mapping[str, str], base: str, message: str, *, key: str) -> str:
    """Commit these files on what is checked out, once for a key, and return the commit. Raises Refused."""
    with _alone():
        if found := _find(MADE, key):
            return found
        if _git("for-each-ref", f"{REFUSED}/{key}"):
            raise Refused("it was taken back before it came")
        if changed := [path for path in files if read("HEAD", path) != read(base, path)]:
            raise Refused(f"somebody else has changed {', '.join(changed)} meanwhile")
        return _commit(files, f"{message}\n{MADE}: {key}")


def find(key: str) -> str | None:
    """The commit with this key, if there is one. A merge that still goes on is waited for."""
    with _alone():
        return _find(MADE, key)


def take_back(commit: str | None, *, key: str) -> None:
    """Restore what the commit with this key has changed, by another commit, once. Raises BuiltUpon.

    With None it is not known that there is one; then it must not come later either.
    """
    with _alone():
        if commit is None:
            _git("update-ref", f"{REFUSED}/{key}", "HEAD")
        commit = commit or _find(MADE, key)
        if commit is None or _find(TAKEN_BACK, key):
            return
        own = _git("diff", "--name-only", f"{commit}^", commit).splitlines()
        if users := [path for path in _git("diff", "--name-only", commit, "HEAD").splitlines() if _uses(path, own)]:
            raise BuiltUpon(f"{', '.join(users)} changed after {commit[:10]}, and has to do with {', '.join(own)}")
        before = {path: read(f"{commit}^", path) for path in own}
        _commit(before, f"Take back {', '.join(own)}\n\nThis undoes {commit}.\n\n{TAKEN_BACK}: {key}")


def _uses(path: str, own: list[str]) -> bool:
    """Whether a file is one of these, or names one of them: rather too often than too seldom."""
    names = "|".join(re.escape(PurePath(each).stem) for each in own)
    return path in own or re.search(rf"\b({names})\b", read("HEAD", path) or "") is not None


def _find(trailer: str, key: str) -> str | None:
    return _git("log", "-1", "--format=%H", f"--grep=^{trailer}: {key}$").strip() or None


def _commit(files: Mapping[str, str | None], message: str) -> str:
    """Make a commit aside, and then go forward to it. Only the last command touches branch and work tree."""
    with TemporaryDirectory() as aside:
        index = {"GIT_INDEX_FILE": os.path.join(aside, "index")}
        _git("read-tree", "HEAD", environment=index)
        for path, text in files.items():
            if text is None:
                _git("update-index", "--force-remove", path, environment=index)
                continue
            blob = _git("hash-object", "-w", "--stdin", given=text).strip()
            _git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", environment=index)
        tree = _git("write-tree", environment=index).strip()
    commit = _git("commit-tree", tree, "-p", "HEAD", "-F", "-", given=message).strip()
    try:
        _git("merge", "--quiet", "--ff-only", commit)
    except OSError as error:
        raise Refused(str(error)) from error  # such as a file of that name which nobody has committed
    return commit


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time, over all processes. Whoever has it runs a few commands that each end in time.

    Git inherits the lock: when the process that called it is killed, the next one waits until that command has ended,
    and then sees whether it was done.
    """
    lock = os.open(_git("rev-parse", "--absolute-git-dir").strip() + "/hocket.lock", os.O_CREAT | os.O_RDWR)
    try:
        os.set_inheritable(lock, True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _git(*arguments: str, given: str = "", environment: Mapping[str, str] | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    folder = os.environ.get("CODING_REPOSITORY")
    if not folder:
        raise LookupError("CODING_REPOSITORY has to name the repository to work on")
    done = subprocess.run(
        ["git", "-C", folder, *CREW, *arguments],
        input=given.encode(),
        env=clean | dict(environment or {}),
        capture_output=True,
        timeout=GIT_S,
        close_fds=False,
        check=False,
    )
    if done.returncode:
        raise OSError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")
