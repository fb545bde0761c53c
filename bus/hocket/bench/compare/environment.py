"""An environment of its own for each system that is not ours: installed once, on demand, and never into hocket's."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from hocket.bench.compare import serving
from hocket.bench.compare.serving import LeftOut

INSTALL_S = 600.0
"""How long one installer may take."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages that are installed together."""

    name: str
    python: tuple[str, ...]
    """Requirements from PyPI, each system's current version."""

    npm: tuple[str, ...] = ()
    """Packages from npm, for servers that are published there."""

    def folder(self, base: Path) -> Path:
        """Where it is, below the folder of all environments."""
        return base / self.name

    def interpreter(self, base: Path) -> Path:
        """Its Python."""
        return self.folder(base) / "bin" / "python"

    def is_there(self, base: Path) -> bool:
        """Whether all of it has been installed, and nothing else was asked for then."""
        mark = self._mark(base)
        return mark.is_file() and mark.read_text() == self._listed()

    async def install(self, base: Path) -> None:
        """Install what is not there yet. Raises LeftOut with the installer's last words."""
        if self.is_there(base):
            return
        folder = self.folder(base)
        folder.mkdir(parents=True, exist_ok=True)
        python = str(self.interpreter(base))
        # Our own pip installs for another Python too; to bring it one takes seconds.
        ours = find_spec("pip") is not None
        pip = [sys.executable, "-m", "pip", "--python", python] if ours else [python, "-m", "pip"]
        commands = [
            [sys.executable, "-m", "venv", "--clear", *(["--without-pip"] if ours else []), str(folder)],
            [*pip, "--disable-pip-version-check", "--quiet", "install", *self.python],
        ]
        if self.npm:
            npm = which("npm")
            if npm is None:
                raise LeftOut(f"{', '.join(self.npm)} comes from npm, which is not installed")
            commands.append([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *self.npm])
        for command in commands:
            await serving.output(command, within_s=INSTALL_S)
        self._mark(base).write_text(self._listed())

    def _mark(self, base: Path) -> Path:
        return self.folder(base) / "installed.txt"

    def _listed(self) -> str:
        return "".join(f"{package}\n" for package in (*self.python, *self.npm))
