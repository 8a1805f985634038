"""Where MLflow is, the marks that say what is known to be there, its failures in a line; no MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import DfkdError, DiskError
from harness.store.directory import TrialDir

_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")


def resolve_uri(uri: str | None, out: Path) -> str:
    """The tracking URI in full; None is the SQLite file under ``out``.

    Raises:
        DfkdError: for a scheme that MLflow has no server or database for.
    """
    if uri is None:
        return f"sqlite:///{Path(out).absolute() / 'mlflow.db'}"
    scheme, colon, _ = uri.partition(":")
    if not colon or scheme.partition("+")[0] not in _SCHEMES:
        known = ", ".join(_SCHEMES)
        raise DfkdError(f"tracking URI {mask(uri)!r} is none of {known}; a file store is sqlite:///FILE.db")
    file = sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file.absolute()}"


def mask(text: str) -> str:
    """A text without the passwords of the URIs in it."""
    return re.sub(r"//([^:/@\s]*):[^@/\s]+@", r"//\1:***@", text)


def sqlite_file(uri: str) -> Path | None:
    """The database's file, or None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@dataclass(frozen=True)
class Place:
    """An experiment at a URI, and the marks in ``out`` that say what is known to be there."""

    uri: str
    out: Path
    experiment: str

    @property
    def key(self) -> str:
        """Names the place among the marks."""
        return f"{mask(self.uri)}#{self.experiment}"

    def token(self) -> str | None:
        """Which experiment of that name the marks speak of; None when there is none."""
        file = sqlite_file(self.uri)
        known = _json(self.out / "tracking.json").get(self.key)
        return None if file is not None and not file.exists() else known

    def remember(self, token: str) -> None:
        """A database made anew has no run of what was marked before."""
        path = self.out / "tracking.json"
        known = _json(path)
        if known.get(self.key) != token:
            files.write_json(path, known | {self.key: token})

    def is_marked(self, run: TrialDir, token: str, digest: str) -> bool:
        """Whether MLflow is known to hold this state of the trial."""
        return _json(run.path / "synced.json").get(self.key) == f"{token} {digest}"

    def mark(self, run: TrialDir, token: str, digest: str) -> None:
        """Note in the trial's directory that MLflow holds this state of it."""
        if not self.is_marked(run, token, digest):
            marks = _json(run.path / "synced.json") | {self.key: f"{token} {digest}"}
            with suppress(DiskError):  # a mark only saves time
                run.write_json("synced.json", marks)


def _json(path: Path) -> dict[str, Any]:
    with suppress(DiskError):
        return files.read_json(path) or {}
    return {}


@contextmanager
def told(uri: str, what: str = "is unreachable") -> Iterator[None]:
    """Whatever MLflow, its database driver or the network raises, in one line."""
    try:
        yield
    except DfkdError:
        raise
    except Exception as error:
        raise DfkdError(f"MLflow at {mask(uri)} {what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """A stranger's error in one line without passwords: the system's own word where it has one."""
    inner = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    if isinstance(inner, OSError) and inner.strerror:
        return mask(f"{inner.strerror} {inner.filename or ''}".strip())
    name = "" if isinstance(error, DfkdError) else f"{type(error).__name__}: "
    return mask(name + (str(error).strip().splitlines() or [""])[0])[:200]
