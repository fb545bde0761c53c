"""Small git repositories for crews that write code."""

import os
import subprocess
from pathlib import Path

IDENTITY = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")


def made(folder: Path) -> Path:
    """A repository with one commit, and a work tree."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "README.md", "# words\n")
    return folder


def commit(folder: Path, path: str, text: str) -> str:
    """Somebody else changes a file."""
    (folder / path).write_text(text)
    git(folder, "add", path)
    git(folder, "commit", "--quiet", "--message", f"Change {path}")
    return git(folder, "rev-parse", "HEAD")


def git(folder: Path, *arguments: str) -> str:
    """What git prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *IDENTITY, *arguments]
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout.strip()


def every_byte(folder: Path) -> dict[str, bytes]:
    """All files below it, git's own too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
