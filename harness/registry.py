"""Name -> method: a file in ``methods/`` registers itself, a plug-in by its entry point."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.errors import DfkdError, unknown

if TYPE_CHECKING:
    from harness.interface import Method

GROUP = "dfkd.methods"


class Methods:
    """Methods of this package (``methods/<name>.py``) and of others (entry point group ``dfkd.methods``)."""

    def names(self) -> list[str]:
        """Every registered name; imports none."""
        return sorted(_own() | _foreign().keys())

    def available(self) -> list[str]:
        """Names that can be imported; references first, then by year."""
        found = [(name, cls) for name in self.names() if (cls := self.error_or(name)[0])]
        return [n for n, c in sorted(found, key=lambda p: (not p[1].USES_DATA, p[1].YEAR, p[0]))]

    def error_or(self, name: str) -> tuple[type[Method] | None, str]:
        """(class, "") or (None, why it cannot be used): a broken plug-in never stops anybody else."""
        try:
            return self.get(name), ""
        except Exception as error:  # noqa: BLE001 - whatever a stranger's module raises
            return None, f"{type(error).__name__}: {error}"

    @lru_cache  # noqa: B019 - one registry, one life
    def get(self, name: str) -> type[Method]:
        """The method's class.

        Raises:
            DfkdError: for a name nobody registered, or a plug-in that cannot be loaded.
        """
        if name in _own():
            return _checked(name, importlib.import_module(f"methods.{name}"))
        if name not in (foreign := _foreign()):
            raise unknown("method", name, self.names())
        try:
            loaded = foreign[name].load()
        except Exception as error:
            raise DfkdError(f"plug-in {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
        return _checked(name, loaded)


def _own() -> set[str]:
    package = importlib.import_module("methods")
    return {m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg}


def _foreign() -> dict[str, EntryPoint]:
    own = _own()
    return {e.name: e for e in entry_points(group=GROUP) if e.name not in own}


def _checked(name: str, found: Any) -> type[Method]:
    """The method that was found, or the only one that a module defines."""
    from harness.interface import Method

    def complete(cls: Any) -> bool:
        return inspect.isclass(cls) and issubclass(cls, Method) and not inspect.isabstract(cls)

    if isinstance(found, ModuleType):
        own = [c for c in vars(found).values() if complete(c) and c.__module__ == found.__name__]
        if len(own) != 1:
            raise DfkdError(f"{found.__name__} defines {len(own)} methods; a method file defines one")
        found = own[0]
    if not complete(found):
        raise DfkdError(f"method {name!r} is not a complete subclass of harness.interface.Method")
    if not hasattr(found, "HP"):
        raise DfkdError(f"method {name!r} has no HP: give it a frozen dataclass, empty if need be")
    cls: type[Method] = found
    return cls


methods = Methods()
