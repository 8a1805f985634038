"""Known ways to fail, each by its name: what a trial's settings, curve and numbers show. No torch.

A warning is one line that begins with its name and a colon, without a semicolon, which parts warnings in the
frame. It stands in ``result.json``; from there `dfkd status`, the report and MLflow have it. What is known
before the first step is kept beside the trial while it runs (`harness.store.directory.TrialDir.warn`).
`harness.metrics.coverage` finds mode collapse and ignored labels among the images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from harness.errors import DfkdError
from harness.files import is_number
from harness.settings import settings_of

if TYPE_CHECKING:
    import numpy as np

    from harness.config import Task
    from harness.interface import Method
    from harness.metrics.base import Evidence
    from harness.network import NetSpec
    from harness.store.directory import TrialDir


#: share of test images' high frequencies below which images are blurred. A Gaussian of 0.55 pixels leaves
#: as much of MNIST, one of 0.8 of digits; of 171 runs on both the seven below reached 23 to 88 % top-1, all
#: above 95 % had more than 0.52.
LOW_DETAIL = 0.5
#: times the whole loss of the first half that one term must reach: no term of some 250 runs on digits and
#: MNIST, poor ones among them, came to 2 times even its median
GROWTH = 10.0
#: a loss of the order of one is never called large, however small it was before
_LARGE = 1.0
#: points a curve must have before the growth of its terms is judged, and the student's fall
_POINTS, _FEW = 10, 4
#: what luck allows a student above its teacher: standard errors of the paired difference on the test set ...
LUCK_ERRORS = 3.0
#: ... and points: even students that learn from the real data stay within half a point of it on digits
LUCK_POINTS = 2.0


def before(cls: type[Method], hp: Any, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> list[str]:
    """What is known before the first step: the method's own cautions, a BatchNorm weight near zero."""
    return [*cls.cautions(hp, task, t_spec, s_spec), *near_zero(hp)]


def near_zero(hp: Any) -> list[str]:
    """Weights of a BatchNorm term below all that a search would try: images blur (CPSC-DFKD's signature).

    A weight that is off is an ablation and said as much by its row; `blur` looks at its images all the same.
    """
    found = []
    for name, (_, meta) in settings_of(type(hp)).items():
        value, space = getattr(hp, name), meta.space
        if meta.term == "bn" and space and space.kind != "choice" and meta.off < value < space.low:
            found.append(
                f"blur: {name} = {value:g}, the weight of BatchNorm statistics, is below {space.low:g}, the "
                "least worth a try: they hardly hold the images"
            )
    return found


def after(
    ev: Evidence, metrics: Mapping[str, float], curve: Sequence[Mapping[str, Any]], uses_data: bool
) -> list[str]:
    """What a finished trial shows.

    Args:
        ev: what the metrics looked at.
        metrics: column -> number.
        curve: rows of ``curve.jsonl``.
        uses_data: whether the method is a reference, which may well be better than its teacher.
    """
    import numpy as np

    most = float(np.bincount(ev.labels).max() / len(ev.labels))
    found = [*blur(metrics), *divergence(curve, ev.task.K, most)]
    return found if uses_data else [*found, *leak(ev.labels, ev.t_logits.argmax(1), ev.s_logits.argmax(1))]


def of_run(run: TrialDir) -> list[str]:
    """Warnings of a trial wherever it stands: of its result, or of what there is to see so far."""
    found = run.look(live=False)
    if found.result is not None or not (curve := run.curve()):
        return list(found.warnings)
    from harness.tasks import catalog

    try:
        return [*found.warnings, *divergence(curve, catalog.describe(run.trial.task).K)]
    except DfkdError:  # a folder of images that is not here
        return list(found.warnings)


def blur(metrics: Mapping[str, float]) -> list[str]:
    """Images with less than `LOW_DETAIL` of the test images' high frequencies (metric ``hf_ratio``)."""
    detail = metrics.get("hf_ratio", math.nan)
    if not detail < LOW_DETAIL:
        return []
    return [f"blur: the images have {100 * detail:.0f} % of the test images' share of high frequencies"]


def divergence(curve: Sequence[Mapping[str, Any]], classes: int, most: float = 0.0) -> list[str]:
    """Accuracy back at chance after it had been above, and loss terms that grow without bound.

    At chance is within half of it (a twentieth of what is above it, if that is less) over the last tenth of
    the points; above is once at twice chance (or an eighth of the way to 100 %). A term has grown when its
    median size over the last tenth is `GROWTH` times the most that the whole loss of its phase was in the
    first half (but for the first tenth, of wild losses), and more than in the tenth before.

    Args:
        curve: rows with ``top1`` and terms ``G/...`` and ``S/...``.
        classes: how many; chance is 100 over it.
        most: share of the largest class, which a constant answer gets right.
    """
    return [*_fallen(curve, classes, most), *_grown(curve)]


def _fallen(curve: Sequence[Mapping[str, Any]], classes: int, most: float) -> list[str]:
    seen = [(float(row["top1"]), row["point"]) for row in curve if is_number(row.get("top1"))]
    if len(seen) < _FEW:
        return []
    chance = 100.0 * max(1.0 / classes, most)
    low = chance + min(chance / 2, (100 - chance) / 20)
    high = chance + min(chance, (100 - chance) / 8)
    end = fmean(top1 for top1, _ in seen[-max(1, len(seen) // 10) :])
    best, point = max(seen, key=lambda pair: pair[0])
    if end > low or best < high:
        return []
    return [
        f"divergence: top-1 ends at {end:.2f} %, where chance is {chance:.2f} %, after {best:.2f} % at "
        f"point {point}"
    ]


def _grown(curve: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(curve) < _POINTS:
        return []
    names = [k for k, v in curve[-1].items() if "/" in k and is_number(v)]
    size = {k: [abs(float(row.get(k, 0.0))) for row in curve] for k in names}
    tenth, found = len(curve) // 10, []
    for k in names:
        phase = [size[other] for other in names if other.partition("/")[0] == k.partition("/")[0]]
        whole = max(sum(row) for row in list(zip(*phase, strict=True))[tenth : len(curve) // 2])
        last, earlier = median(size[k][-tenth:]), median(size[k][-2 * tenth : -tenth])
        if last > GROWTH * max(whole, _LARGE) and last > earlier:
            found.append(
                f"divergence: loss term {k} ends at {last:.3g} in size, the whole loss of "
                f"{k.partition('/')[0]} was {whole:.3g} at most in the first half"
            )
    return found


def leak(labels: np.ndarray, teacher: np.ndarray, student: np.ndarray) -> list[str]:
    """A student above its teacher by more than `LUCK_ERRORS` standard errors and `LUCK_POINTS` points.

    The error is that of the paired difference: with b images of N that the student alone gets right and c
    that the teacher alone does, (b - c) / N is the difference and (b + c - (b - c)^2 / N) / N^2 its variance.

    Args:
        labels: (N,) classes of the test images.
        teacher: (N,) its arg-max.
        student: (N,) its arg-max.
    """
    n = len(labels)
    b = int(((student == labels) & (teacher != labels)).sum())
    c = int(((teacher == labels) & (student != labels)).sum())
    above, error = 100.0 * (b - c) / n, 100.0 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    if above <= max(LUCK_ERRORS * error, LUCK_POINTS):
        return []
    return [
        f"leak: the student is {above:.2f} points above its teacher on the test set, where "
        f"{max(LUCK_ERRORS * error, LUCK_POINTS):.2f} could be luck: has it seen real images?"
    ]
