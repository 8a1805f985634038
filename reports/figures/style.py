"""One look for every figure and the page: colours for light and dark, line styles, sizes, fonts.

A figure is drawn in the light colours; inside the page each becomes the CSS variable of the same name, so
one drawing serves light, dark and print. Hues are Okabe and Ito's (yellow and black, which vanish on one of
the papers, made way for brown and violet), told apart by colour-blind readers: seven for methods, brown for
controls, grey for references.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: name -> (light, dark), as CSS variables ``--name``
THEME: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14171a"),
    "ink": ("#1c2024", "#e6e8ea"),
    "muted": ("#5b636b", "#a3abb3"),
    "line": ("#dfe3e6", "#33393f"),
    "shade": ("#f4f6f7", "#1d2125"),
    "accent": ("#0b5cad", "#7cc0ff"),
    "warn": ("#9a4a00", "#ffb26b"),
    "c0": ("#0072b2", "#4da6e8"),
    "c1": ("#d55e00", "#f77f3a"),
    "c2": ("#009e73", "#21c596"),
    "c3": ("#cc79a7", "#eaa4cd"),
    "c4": ("#e69f00", "#ffc843"),
    "c5": ("#663311", "#996644"),
    "c6": ("#56b4e9", "#a9e0ff"),
    "c7": ("#5a36c8", "#8a6cff"),
    "r0": ("#6c757e", "#98a1aa"),
    "r1": ("#8d969f", "#b9c1c9"),
}
# Dashes in multiples of the line's width; () is solid. Methods start solid, controls and references never.
_Dashes = tuple[tuple[float, ...], ...]
_GIVEN: _Dashes = ((4, 2), (1, 1.6), (7, 2, 1, 2))
#: what a row is -> its hues and dashes
_KINDS: dict[str, tuple[tuple[str, ...], _Dashes]] = {
    "method": (("c0", "c1", "c2", "c3", "c4", "c6", "c7"), ((), (6, 1.5, 1, 1.5), (5, 1, 1, 1, 1, 1))),
    "control": (("c5",), _GIVEN),
    "reference": (("r0", "r1"), _GIVEN),
}
#: methods whose style is their own in every report, in the order of hues; a new method goes to the end
_OWN = ("cpsc", "dafl", "dfad", "zskt", "dfq", "cmi", "fast", "deepinversion", "adi")
#: as many as have no divisor with seven hues: sixty-three methods before two share hue and marker
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

#: how the points of a class look: colour and marker of each, for at most so many classes
CLASSES = tuple((THEME[f"c{i % 8}"][0], _MARKERS[(i + i // 8) % 7]) for i in range(10))

#: width in inches: 480 CSS pixels, whose text stays readable when a phone shrinks it to 350
WIDTH = 5.0

RC: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": THEME["muted"][0],
    "axes.labelcolor": THEME["ink"][0],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": THEME["line"][0],
    "grid.linewidth": 0.7,
    "text.color": THEME["ink"][0],
    "text.parse_math": False,  # a name may hold a dollar
    "xtick.color": THEME["muted"][0],
    "ytick.color": THEME["muted"][0],
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same layout on every machine
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "svg.fonttype": "none",  # real text: searchable, in the reader's own font, any script
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Style:
    """How one row is drawn, the same in every figure of a report.

    Attributes:
        colour: hex, of the light theme.
        dash: on and off lengths in line widths; () is solid.
        marker: matplotlib's name of it.
    """

    colour: str
    dash: tuple[float, ...]
    marker: str


def styles(rows: Mapping[str, tuple[str, str]]) -> dict[str, Style]:
    """A style for each row: a method's own in every report, what is left for its variants.

    Args:
        rows: label -> (method, "method", "control" or "reference"), in the report's order.

    Returns:
        References in grey, controls in brown, both dashed; methods in colour. The row that bears a method's
        name, or else its first row, has that method's style, the same in all reports; neighbours among the
        others never have one hue; the dash changes once the hues are used up.
    """
    found: dict[str, Style] = {}
    for kind in ("control", "reference"):
        hues, dashes = _KINDS[kind]
        for i, label in enumerate(label for label, (_, own) in rows.items() if own == kind):
            marker = _MARKERS[(-1 - i) % len(_MARKERS)]
            found[label] = Style(THEME[hues[i % len(hues)]][0], dashes[i % len(dashes)], marker)
    found |= {label: _style(seat) for label, seat in _seats(rows).items()}
    return {label: found[label] for label in rows}


def _style(seat: int) -> Style:
    hues, dashes = _KINDS["method"]
    dash = dashes[seat // len(hues) % len(dashes)]
    return Style(THEME[hues[seat % len(hues)]][0], dash, _MARKERS[seat % len(_MARKERS)])


def _seats(rows: Mapping[str, tuple[str, str]]) -> dict[str, int]:
    """Each method's place in `_OWN`; for every other row the first free place of the rarest hue."""
    hues = len(_KINDS["method"][0])
    labels = {label: method for label, (method, kind) in rows.items() if kind == "method"}
    first = {method: label for label, method in reversed(labels.items())}
    first |= {method: method for label, method in labels.items() if label == method}
    seats = {first[method]: i for i, method in enumerate(_OWN) if method in first}
    free = [i for i in range(len(labels) + len(_OWN)) if i not in seats.values()]
    before = -1
    for label in labels:
        if label not in seats:
            used = Counter(seat % hues for seat in seats.values())
            seats[label] = min(free, key=lambda i: (i % hues == before, used[i % hues], i))
            free.remove(seats[label])
        before = seats[label] % hues
    return seats


def css() -> str:
    """The theme as CSS: light by default and in print, dark where the reader's system asks for it."""
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in THEME.items()) for i in (0, 1))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
