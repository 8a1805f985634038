"""What every figure needs: one look while drawing, names that fit, legends, and the way out as SVG.

A figure is a `matplotlib.figure.Figure`; nothing touches pyplot's own state. `svg` writes one as text, the
same bytes for the same figure, and `themed` turns its colours into the page's CSS variables.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.style import RC, THEME, WIDTH, Style
from reports.figures.svg import in_tags, smaller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.numbers.stats import Interval

#: how the teacher's accuracy is drawn wherever it stands
TEACHER: dict[str, Any] = {"color": THEME["muted"][0], "linewidth": 1, "linestyle": (0, (1, 2))}

#: how far beyond the means, in their own span, a scale follows an interval: it shows how wide that is, and
#: one of two seeds, which can be as wide as a page, leaves the means apart
_FLAT = 4.0
#: the ends of an accuracy, which a t-interval does not know
PERCENT = (0.0, 100.0)
#: of a difference of two
POINTS = (-100.0, 100.0)


class Reach(NamedTuple):
    """The ends of a scale of means and intervals, and whether it cuts an interval."""

    low: float
    high: float
    cut: bool


def reach(shown: Sequence[Interval], least: float = 1.0, most: tuple[float, float] = PERCENT) -> Reach:
    """A scale that holds every mean and, as far as it does not flatten them, every interval.

    Args:
        shown: at least one, in any unit; a half-width of NaN is none.
        least: span of the means below which they count as apart by so much.
        most: what the scale stays within, whatever an interval says.
    """
    means = [each.mean for each in shown]
    halves = [0.0 if math.isnan(each.half) else each.half for each in shown]
    low = min(mean - half for mean, half in zip(means, halves, strict=True))
    high = max(mean + half for mean, half in zip(means, halves, strict=True))
    far = _FLAT * max(max(means) - min(means), least)
    ends = max(low, min(means) - far, most[0]), min(high, max(means) + far, most[1])
    return Reach(*ends, ends != (low, high))


def cut(shown: Sequence[Interval]) -> str:
    """What a caption adds where the scale of these cuts one."""
    return " An interval that leaves the picture is cut; the table has it." if reach(shown).cut else ""


@contextmanager
def drawing(**more: Any) -> Iterator[None]:
    """Matplotlib in the one look, with more of its settings where a figure asks for them."""
    with matplotlib.rc_context(RC | more), warnings.catch_warnings():
        # The reader's browser has the letters that the layout's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG document in light colours; ``name`` makes its ids unique within a page."""
    buffer = io.StringIO()
    with drawing(**{"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = smaller(buffer.getvalue())
    text = in_tags(text, lambda tag: re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", tag))
    seen = Counter[str]()

    def once(id: re.Match[str]) -> str:  # equal drawings have equal ids; a reference means the first
        seen[id[1]] += 1
        return id[0] if seen[id[1]] == 1 else f' id="{id[1]}-{seen[id[1]]}"'

    return in_tags(text, lambda tag: re.sub(r' id="([^"]+)"', once, tag))


def themed(svg: str, title: str) -> str:
    """An SVG document as an element of the page, its colours the page's variables."""
    text = svg[svg.index("<svg") :]
    names = {light: f"var(--{name})" for name, (light, _) in THEME.items()}
    text = in_tags(text, lambda tag: re.sub(r"#[0-9a-f]{6}\b", lambda m: names.get(m[0], m[0]), tag))
    width, height = (float(v) for v in re.findall(r'viewBox="0 0 (\S+) (\S+)"', text)[0])
    text = re.sub(r'<svg(.*?) width="\S+pt" height="\S+pt"', r"<svg\1", text, count=1)
    safe = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace(
        "<svg", f'<svg role="img" aria-label="{safe}" style="aspect-ratio:{width:g}/{height:g}"', 1
    )


def handle(style: Style, name: str) -> Line2D:
    """A row's entry in a legend."""
    return Line2D(
        [], [], color=style.colour, linestyle=(0, style.dash) if style.dash else "-", marker=style.marker,
        markersize=4.2, label=name,
    )  # fmt: skip


def beside(ax: Any, y: float, text: str, x: float = 1.02, size: float = 8.5, color: str = "") -> None:
    """Words on the right of the axes, ``x`` in their widths, at a value of their scale."""
    where = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
    ax.annotate(text, (x, y), size=size, color=color or THEME["ink"][0], **where)


def short(label: str, most: int = 26) -> str:
    """A name fit for a picture: printable, not too long, and shown by matplotlib as it stands."""
    text = "".join(c if c.isprintable() else " " for c in label)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return f"\u200b{text}" if text.startswith("_") else text  # a leading underscore hides a legend's entry


def legend_columns(names: Sequence[str], size: float = 9) -> int:
    """As many columns as fit the width, at about 0.075 inch a letter of 9 points and 0.615 inch a handle."""
    for columns in (4, 3, 2):
        rows = math.ceil(len(names) / columns)
        longest = [max(map(len, names[i : i + rows])) for i in range(0, len(names), rows)]
        if sum(size / 9 * (0.615 + 0.075 * letters) for letters in longest) <= WIDTH:
            return columns
    return 1
