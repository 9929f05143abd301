"""Installs the other gateways into `bench/.peers`, each apart, at pinned versions."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).resolve().parent / ".peers"
SECONDS = 900


class CannotInstall(Exception):
    """A peer is not to be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """A release of a peer in a public registry."""

    directory: str
    requirement: str
    version: str

    @property
    def home(self) -> Path:
        """The directory of the installation."""
        return PEERS / self.directory

    @property
    def is_installed(self) -> bool:
        """Whether this very release is there, whole."""
        try:
            return self._mark.read_text() == self._pin
        except FileNotFoundError:
            return False

    @property
    def _mark(self) -> Path:
        return self.home / "installed"

    @property
    def _pin(self) -> str:
        return f"{self.requirement} {self.version}"

    def _begin(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)

    def _finish(self) -> None:
        self._mark.write_text(self._pin)


@dataclass(frozen=True, slots=True)
class FromPyPI(Package):
    """In a virtual environment of its own."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.home / "bin" / "python"

    def install(self) -> None:
        """Does nothing where it is installed. Raises CannotInstall."""
        if self.is_installed:
            return
        self._begin()
        run(sys.executable, "-m", "venv", str(self.home))
        pip = (str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, f"{self.requirement}=={self.version}")
        self._finish()


@dataclass(frozen=True, slots=True)
class FromNpm(Package):
    """Installs into a separate `node_modules`; `overrides` pins dependencies whose newest release
    is too new."""

    overrides: tuple[tuple[str, str], ...] = ()

    def install(self) -> None:
        """Does nothing where it is installed. Raises CannotInstall."""
        if self.is_installed:
            return
        if shutil.which("npm") is None:
            raise CannotInstall("npm is not installed: sudo apt-get install nodejs npm")
        self._begin()
        package = {"private": True, "dependencies": {self.requirement: self.version}}
        wanted = package | {"overrides": dict(self.overrides)}
        (self.home / "package.json").write_text(json.dumps(wanted))
        npm = ("npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
        run(*npm, "--prefix", str(self.home))
        self._finish()


def run(*command: str) -> None:
    """Runs a step of an installation. Raises CannotInstall with the end of its output."""
    try:
        outcome = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(str(error)) from error
    if outcome.returncode:
        raise CannotInstall((outcome.stderr or outcome.stdout).strip()[-300:])
