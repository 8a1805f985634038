"""Settings of a method: fields of a dataclass, given as values or as text, checked. Loads no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from harness.errors import DfkdError, unknown

FIDELITY = ("corrected", "released")

#: what a number of a method is, to who shrinks a method or counts what it costs (see `setting`)
Role = Literal["batch", "steps", "warmup", "store"]


class Space(NamedTuple):
    """What a search may try: ``log`` or ``uniform`` between low and high, or ``choice`` of options."""

    kind: Literal["log", "uniform", "choice"]
    low: float = 0.0
    high: float = 0.0
    options: tuple[Any, ...] = ()


def log(low: float, high: float) -> Space:
    """Log-uniform between two positive numbers."""
    return Space("log", low, high)


def uniform(low: float, high: float) -> Space:
    """Uniform between two numbers."""
    return Space("uniform", low, high)


def choice(*options: Any) -> Space:
    """One of the options."""
    return Space("choice", options=options)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Metadata of one field of a method's HP: feeds ``--set``, listings, ablations and searches.

    Attributes:
        help: the paper's symbol and what it does.
        term: for a weight, the loss term it scales.
        off: for a weight, the value at which term and cost vanish.
        low: smallest legal number, or None.
        choices: legal values, or empty for any.
        space: what a search may try, or None.
        role: what it counts (see `setting`), or None.
    """

    help: str
    term: str | None = None
    off: float | None = None
    low: float | None = None
    choices: tuple[Any, ...] = ()
    space: Space | None = None
    role: Role | None = None


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] = (),
    low: float | None = None,
    space: Space | None = None,
    role: Role | None = None,
) -> Any:
    """A field of HP that is not a loss weight; ``None`` is legal only where it is default or a choice.

    Args:
        default: its value when nobody gives one; decides its type.
        help: the paper's symbol and what it does.
        choices: legal values, or empty for any.
        low: smallest legal number, or None.
        space: what a search may try, or None.
        role: what a whole number counts, for `dfkd check` and the count of costs: images of a ``batch`` (the
            first that is declared is the student's), ``steps`` of a loop inside a round, of whatever network,
            ``warmup`` rounds that train no student, or the size of a ``store``. A cost is linear in batches
            and in each number of steps; without roles it is counted at full size: right, but slow.

    Raises:
        DfkdError: for an unknown role, or one of a setting that is no whole number.
    """
    if role is not None and (role not in get_args(Role) or type(default) is not int):
        raise DfkdError(
            f"setting({default!r}, {help!r}): role {role!r} must be one of {', '.join(get_args(Role))}, "
            "and its default a whole number"
        )
    meta = Setting(help, low=low, choices=choices, space=space, role=role)
    return dataclasses.field(default=default, metadata={"dfkd": meta})


def weight(default: float, help: str, *, term: str, off: float = 0.0, space: Space | None = None) -> Any:
    """A loss weight: at ``off`` the term and its cost are gone."""
    meta = Setting(help, term=term, off=off, low=0.0, space=space)
    return dataclasses.field(default=default, metadata={"dfkd": meta})


def settings_of(hp: type) -> dict[str, tuple[Any, Setting]]:
    """Field name -> (default, metadata) of an HP dataclass, in order."""
    return {f.name: (f.default, f.metadata["dfkd"]) for f in dataclasses.fields(hp)}


def with_role(hp: type, role: Role) -> list[str]:
    """Names of the settings of this role, in order."""
    return [name for name, (_, meta) in settings_of(hp).items() if meta.role == role]


def coerce(owner: str, name: str, value: Any, default: Any, meta: Setting) -> Any:
    """A value as the setting's own type, checked.

    Args:
        owner: the method's name, for the message.
        name: the setting's name.
        value: given in a grid, or a string from the command line.
        default: decides the type; a setting whose default is None takes an int, a float or a string.
        meta: choices and bounds.

    Raises:
        DfkdError: naming the setting, the value and what is allowed.
    """
    where = f"setting {owner}.{name}"
    if meta.choices:
        for option in meta.choices:
            if value == option and isinstance(value, bool) == isinstance(option, bool):
                return option
            if isinstance(value, str) and value.lower() == str(option).lower():
                return option
        allowed = ", ".join(str(c) for c in meta.choices)
        raise DfkdError(f"{where} = {value!r} is not allowed; choose from: {allowed}")
    if default is None and isinstance(value, str) and value.lower() == "none":
        return None
    kind = float if meta.term else type(default)
    try:
        if kind is bool:
            if str(value).lower() not in ("true", "false"):
                raise ValueError
            out: Any = str(value).lower() == "true"
        elif kind is int or default is None:
            if value is None and default is None:
                return None
            out = int(value)
            if float(value) != out:
                raise ValueError
        elif kind is tuple:
            parts = value.split("+") if isinstance(value, str) else value
            item = type(default[0]) if default else str
            out = tuple(item(p) for p in parts)
        else:
            out = kind(value)
    except (TypeError, ValueError, OverflowError):
        words = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a list a+b+c"}
        want = "a whole number or none" if default is None else words.get(kind, "a text")
        raise DfkdError(f"{where} = {value!r} is not {want} (default {default!r})") from None
    if (isinstance(out, float) and out != out) or out in (float("inf"), float("-inf")):
        raise DfkdError(f"{where} = {value!r} is not a finite number")
    if meta.low is not None and isinstance(out, int | float) and out < meta.low:
        raise DfkdError(f"{where} = {value!r} is below the smallest allowed, {meta.low:g}")
    return out


#: setting that is a preset -> its value -> what that changes in other settings
Presets = Mapping[str, Mapping[str, Mapping[str, Any]]]


def resolve(owner: str, hp: type, presets: Presets, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a method, from its defaults, the presets in their order, then ``given``.

    Raises:
        DfkdError: for an unknown setting or an illegal value.
    """
    fields = settings_of(hp)
    for name in given:
        if name not in fields:
            raise unknown(f"setting of {owner}", name, fields)
    values = {name: default for name, (default, _) in fields.items()}
    for name, changes in presets.items():
        chosen = coerce(owner, name, given.get(name, values[name]), *fields[name])
        values.update(changes.get(chosen, {}))
    for name, value in given.items():
        values[name] = coerce(owner, name, value, *fields[name])
    return values
