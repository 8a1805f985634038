"""The stored trials give exactly the stored report, and its numbers are scipy's and statsmodels'.

Remake the files with ``python -m tests.reports.golden.remake``, then read the diff.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from reports.numbers import ranking
from reports.numbers.table import main
from tests.reports.golden import HERE, KNOWN, NAMES, numbers, write

pytestmark = pytest.mark.xdist_group("golden")

PLACE = ["task", "teacher", "student"]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    return write(tmp_path_factory.mktemp("numbers"))


@pytest.mark.parametrize("kind", NAMES)
def test_file(written, kind):
    assert written[kind].read_text("utf-8") == (HERE / NAMES[kind]).read_text("utf-8")


def test_the_trials_hold_what_they_promise():
    frame = numbers()
    assert set(frame["status"]) == {"done", "failed", "skipped", "missing", "running"}
    assert frame["stale"].astype(bool).any() and set(frame["teacher_digest"]) >= {"9c" * 32, "1f" * 32}
    assert frame.duplicated(["id", "variant"]).any() and frame.duplicated("id").sum() > 3
    assert any(not name.isascii() for name in frame["variant"])
    assert "nobody" in set(frame["method"]) - {row.method for row in KNOWN}


# --- the statistics, from the trials alone ------------------------------------------------------


def standing() -> pd.DataFrame:
    """Results that count: done, not stale, each trial once a row."""
    frame = numbers().drop_duplicates(["id", "variant"])
    return frame[(frame["status"] == "done") & (frame["stale"] == "")]


def test_intervals_are_scipys():
    table = pd.read_csv(HERE / "numbers.csv", keep_default_na=False, na_values=[""])
    checked = 0
    for (task, teacher, row), group in standing().groupby(["task", "teacher", "variant"]):
        mine = table[(table["task"] == task) & (table["teacher"] == teacher) & (table["label"] == row)]
        mine = mine[mine["stale"].isna()]
        assert len(mine) == 1 and mine["top1"].iloc[0] == pytest.approx(group["top1"].mean())
        if len(group) > 1:
            mean, error = group["top1"].mean(), scipy.stats.sem(group["top1"])
            low, _ = scipy.stats.t.interval(0.95, len(group) - 1, mean, error)
            assert mine["top1_half"].iloc[0] == pytest.approx(mean - low, rel=1e-9)
            checked += 1
    assert checked > 30


def test_comparisons_are_scipys_and_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    found = pd.read_csv(HERE / "numbers_comparisons.csv")
    frame = standing()
    wide = frame[~frame["reference"] & ~frame["control"]].pivot_table(
        index=[*PLACE, "teacher_digest", "seed"], columns="variant", values="top1"
    )
    assert len(found) == math.comb(wide.shape[1], 2)
    p: list[float] = []
    for row in found.to_dict("records"):
        d = np.round((wide[row["row"]] - wide[row["against"]]).dropna(), 9)
        assert row["pairs"] == len(d) and row["difference"] == pytest.approx(d.mean(), rel=1e-9, abs=1e-9)
        n = int((d != 0).sum())
        assert row["differing"] == n and row["p_smallest"] == pytest.approx(min(1.0, 2.0 ** (1 - n)))
        moved = d[d != 0]
        if not n:
            assert row["verdict"] == "equal in every pair"
        else:
            signs = scipy.stats.PermutationMethod(n_resamples=2**n)
            ties = len(set(moved.abs())) < n
            want = scipy.stats.wilcoxon(moved, method=signs if ties else "exact").pvalue
            assert row["p"] == pytest.approx(want, rel=1e-9)
        if n >= 3 and d.std() > 0:
            m = len(d) - 1
            g = d.mean() / d.std() * scipy.stats.nct.mean(m, 1) ** -1  # E[t] of noncentrality 1 is 1 / J
            assert row["effect"] == pytest.approx(g, rel=1e-6)
        p.append(row["p"] if row["p_smallest"] <= 0.05 else math.nan)
    family = [i for i, value in enumerate(p) if not math.isnan(value)]
    assert set(found["family"]) == {len(family)} and len(family) > 15
    adjusted = multitest.multipletests([p[i] for i in family], alpha=0.05, method="holm")[1]
    assert found["p_holm"].iloc[family].to_numpy() == pytest.approx(adjusted, rel=1e-9)
    assert found["p_holm"].drop(index=family).isna().all()
    for i, value in zip(family, adjusted, strict=True):
        verdict, d = found["verdict"][i], found["difference"][i]
        stands = "higher" if d > 0 else "lower"
        assert verdict == stands if value <= 0.05 else verdict.startswith("not shown")


def test_ranks_are_scipys():
    frame = standing()
    free = frame[~frame["reference"] & ~frame["control"]]
    means = free.groupby([*PLACE, "variant"])["top1"].agg(["mean", "size"])
    whole = means[means["size"] == 3]["mean"].unstack("variant").dropna(axis=1)
    got = ranking.ranks(main(numbers()))
    assert set(got.names) == set(whole.columns) and len(got.cells) == len(whole) == 4
    want = scipy.stats.friedmanchisquare(*(whole[name] for name in whole))
    assert (got.statistic, got.p) == (pytest.approx(want.statistic), pytest.approx(want.pvalue))
    ranks = whole.rank(axis=1, ascending=False).mean()
    assert dict(zip(got.names, got.mean_ranks, strict=True)) == pytest.approx(ranks.to_dict())
    # Demšar 2006, table 5: q = 2.569 for four rows
    assert got.cd == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 4)), rel=1e-3)
    together = {frozenset(got.names[first : last + 1]) for first, last in got.groups}
    for a, b in itertools.combinations(whole.columns, 2):
        apart = abs(ranks[a] - ranks[b]) > got.cd
        assert apart != any({a, b} <= group for group in together)


def test_verdicts_follow_from_the_trials_and_the_published_table():
    found = pd.read_csv(HERE / "numbers_verdicts.csv", keep_default_na=False, na_values=[""])
    known = pd.read_csv(HERE / "numbers_published.csv")
    frame = standing()
    seen = set()
    for row in found.to_dict("records"):
        theirs = known.iloc[row["line"] - 2]  # the first line holds the names
        assert theirs["value"] == row["published"] and theirs["method"] == row["method"]
        if not isinstance(row["verdict"], str):
            assert isinstance(row["why"], str) and row["why"]
            continue
        mine = frame[(frame[PLACE] == [row[name] for name in PLACE]).all(axis=1)]
        top1 = mine[mine["variant"] == row["label"]]["top1"]
        ours, scale = top1.mean(), 1.0
        value = theirs["value"]
        if row["method"] != "scratch":
            scale = 100 / mine["teacher_top1"].iloc[0]
            value *= 100 / theirs["teacher_top1"]
        half = scipy.stats.t.ppf(0.975, len(top1) - 1) * scipy.stats.sem(top1)
        gap, within = ours * scale - value, max(half * scale, 0.5)
        want = "reproduced" if abs(gap) <= within else "above" if gap > 0 else "below"
        assert (row["verdict"], row["ratio_gap"]) == (want, pytest.approx(gap, abs=1e-8))
        seen.add(want)
    assert seen == {"reproduced", "above", "below"}
