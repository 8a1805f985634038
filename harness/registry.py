"""Name -> object for methods and nets: a file in the folder registers itself; plug-ins by entry point."""

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
        return sorted(self._own() | set(self._foreign()))

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
        foreign = self._foreign()
        if name in self._own():
            return self._in(importlib.import_module(f"methods.{name}"))
        if name not in foreign:
            raise unknown("method", name, self.names())
        try:
            loaded = foreign[name].load()
        except Exception as error:
            raise DfkdError(f"plug-in {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
        return self._in(loaded) if isinstance(loaded, ModuleType) else self._checked(loaded, name)

    def _own(self) -> set[str]:
        package = importlib.import_module("methods")
        return {m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg}

    def _foreign(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=GROUP) if e.name not in self._own()}

    @staticmethod
    def _checked(cls: Any, name: str) -> type[Method]:
        from harness.interface import Method

        if not (inspect.isclass(cls) and issubclass(cls, Method) and not inspect.isabstract(cls)):
            raise DfkdError(f"method {name!r} is not a complete subclass of harness.interface.Method")
        if not hasattr(cls, "HP"):
            raise DfkdError(f"method {name!r} has no HP: give it a frozen dataclass, empty if need be")
        return cls

    @classmethod
    def _in(cls, module: ModuleType) -> type[Method]:
        from harness.interface import Method

        own = [
            c
            for c in vars(module).values()
            if inspect.isclass(c)
            and issubclass(c, Method)
            and c.__module__ == module.__name__
            and not inspect.isabstract(c)
        ]
        if len(own) != 1:
            raise DfkdError(f"{module.__name__} defines {len(own)} methods; a method file defines one")
        return cls._checked(own[0], module.__name__)


methods = Methods()
