from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from reports.numbers import ranking
from reports.numbers.table import main
from reports.numbers.tests import cells_needed, critical_difference, effect, friedman, holm, signed_rank
from reports.tables.ranking import layout, p_text
from tests.build import frame_rows

#: Demšar 2006, table 5 (a): q at 0.05 of Nemenyi's test, by number of rows
Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


def by_counting(d: list[float]) -> float:
    """Two-sided p of the signed ranks from the definition: every one of the 2^n signs."""
    d = [x for x in d if x]
    ranks = scipy.stats.rankdata(np.abs(d))
    up = sum(r for r, x in zip(ranks, d, strict=True) if x > 0)
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s)
        for signs in itertools.product((0, 1), repeat=len(d))
    ]
    low, high = (np.mean([f(s) for s in sums]) for f in (lambda s: s <= up + 1e-9, lambda s: s >= up - 1e-9))
    return min(1.0, 2 * min(low, high))


class TestSignedRank:
    @pytest.mark.parametrize(("n", "p"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
    def test_when_all_point_one_way(self, n, p):
        # two of the 2^n signs are as extreme
        got = signed_rank([0.1 * (i + 1) for i in range(n)])
        assert got == (pytest.approx(p), pytest.approx(p), n, 1)
        assert signed_rank([-0.1 * (i + 1) for i in range(n)])[3] == -1

    @pytest.mark.parametrize("n", [4, 9, 16, 30])
    def test_agrees_with_scipy_without_ties(self, n):
        d = np.random.default_rng(n).normal(0.4, 1, n)
        want = scipy.stats.wilcoxon(d, method="exact").pvalue
        assert signed_rank(d.tolist()).p == pytest.approx(want, rel=1e-12)

    @pytest.mark.parametrize("seed", range(5))
    def test_ties_and_zeros_are_counted_out(self, seed):
        d = np.random.default_rng(seed).integers(-3, 5, 11).astype(float).tolist()
        got = signed_rank(d)
        assert got.p == pytest.approx(by_counting(d), rel=1e-12)
        assert got.n == sum(x != 0 for x in d)

    def test_many_pairs_agree_with_scipys_approximation(self):
        d = np.random.default_rng(1).integers(-20, 26, 80).astype(float)
        want = scipy.stats.wilcoxon(d, method="approx", correction=False).pvalue
        assert signed_rank(d.tolist()).p == pytest.approx(want, rel=1e-9)

    def test_arithmetic_noise_is_a_tie(self):
        noisy = [0.1 + 0.2 - 0.3, 0.1 + 0.2, -0.3]  # 5e-17, 0.30000000000000004, -0.3
        assert signed_rank(noisy) == (1.0, 0.5, 2, 0)

    def test_no_difference_at_all(self):
        assert signed_rank([0.0, 0.0]) == (1.0, 1.0, 0, 0)
        assert signed_rank([]) == (1.0, 1.0, 0, 0)


class TestHolm:
    def test_by_hand(self):
        # sorted .005 .01 .03 .04, times 4 3 2 1, then never falling
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([]) == []


class TestEffect:
    def test_by_hand(self):
        # mean 2, deviation 1; J(2) = Gamma(1) / (sqrt(1) Gamma(1/2)) = 1 / sqrt(pi)
        assert effect([1.0, 2.0, 3.0]) == pytest.approx(2 / math.sqrt(math.pi))

    def test_where_there_is_none(self):
        assert all(math.isnan(effect(d)) for d in ([], [1.0], [1.0, 2.0], [0.3, 0.3, 0.1 + 0.2]))


class TestFriedman:
    def test_by_hand(self):
        # ranks 1 2 3, 1 2 3, 2 1 3: means 4/3 5/3 3, 12 * 3 / (3 * 4) * (4/9 + 1/9 + 1) = 14/3
        got = friedman(np.array([[9.0, 8.0, 7.0], [9.0, 8.0, 7.0], [8.0, 9.0, 7.0]]))
        assert got.ranks == pytest.approx([4 / 3, 5 / 3, 3])
        assert got.statistic == pytest.approx(14 / 3) and got.p == pytest.approx(math.exp(-7 / 3))

    def test_agrees_with_scipy(self):
        for seed in range(4):  # four values: many ties
            values = np.random.default_rng(seed).integers(0, 4, (6, 5)).astype(float)
            want = scipy.stats.friedmanchisquare(*values.T)
            got = friedman(values)
            assert (got.statistic, got.p) == (pytest.approx(want.statistic), pytest.approx(want.pvalue))

    def test_equal_everywhere(self):
        assert friedman(np.ones((3, 4))) == ([2.5] * 4, 0.0, 1.0)

    @pytest.mark.parametrize("k", Q)
    def test_critical_difference_is_demsars(self, k):
        want = Q[k] * math.sqrt(k * (k + 1) / (6 * 14))
        assert critical_difference(k, 14) == pytest.approx(want, rel=3e-4)

    @pytest.mark.parametrize("k", [2, 3, 4, 8, 13, 19])
    def test_fewest_cells(self, k):
        # mean ranks are at most k - 1 apart
        n = cells_needed(k)
        assert critical_difference(k, n) < k - 1 <= critical_difference(k, n - 1)


def rows_over(cells: int, **top1: tuple[float, ...]) -> pd.DataFrame:
    """A frame of rows in cells task0, task1 ...; a seed's accuracy is moved by 10 a cell."""
    made = []
    for c in range(cells):
        for label, values in top1.items():
            more = {"variant": label, "task": f"task{c}", "top1_oracle": 99.0, "flops": 1e12}
            made += frame_rows(*(v + 10 * c for v in values), **more)
    return pd.DataFrame(made)


def one(found: pd.DataFrame, row: str, base: str) -> pd.Series:
    (place,) = found.index[(found["row"] == row) & (found["against"] == base)]
    return found.loc[place]


class TestComparisons:
    def test_pairs_are_taken_over_cells_and_seeds(self):
        frame = rows_over(2, a=(50.0, 51.0, 52.0), b=(49.0, 49.5, 50.5), c=(50.0, 51.0, 52.0))
        found = ranking.comparisons(frame)
        assert list(zip(found["row"], found["against"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
        ab = one(found, "a", "b")
        d = [1.0, 1.5, 1.5] * 2
        assert (ab["pairs"], ab["asked"], ab["cells"], ab["differing"]) == (6, 6, 2, 6)
        assert ab["difference"] == pytest.approx(np.mean(d))
        assert ab["half"] == pytest.approx(scipy.stats.t.ppf(0.975, 5) * np.std(d, ddof=1) / math.sqrt(6))
        # six pairs one way: 2 / 64; two such comparisons (a = c in every pair is none), so Holm doubles it
        assert (ab["p"], ab["p_smallest"], ab["p_holm"]) == (0.03125, 0.03125, 0.0625)
        untested = "not testable at n = 6"
        assert list(found["verdict"]) == [untested, "equal in every pair", untested]
        assert set(found["family"]) == {2}

    def test_a_family_of_one_is_not_punished(self):
        frame = rows_over(2, a=(50.0, 51.0, 52.0), b=(49.0, 49.5, 50.5), c=(50.0, 51.0, 52.0))
        found = ranking.comparisons(frame, [("b", "a")])
        assert list(found["verdict"]) == ["lower"] and found["p_holm"][0] == 0.03125

    def test_what_cannot_reject_does_not_count_in_the_family(self):
        frame = rows_over(2, a=(50.0, 51.0, 52.0), b=(49.0, 49.5, 50.5), few=(1.0, 2.0, 3.0))
        frame = frame[~((frame["variant"] == "few") & (frame["task"] == "task1"))]
        found = ranking.comparisons(frame)
        assert one(found, "a", "b")["p_holm"] == 0.03125 and one(found, "a", "b")["verdict"] == "higher"
        assert one(found, "a", "few")["verdict"] == "not testable at n = 3"

    def test_ranks_and_mean_may_disagree(self):
        # eleven small steps up and one far down: the ranks say higher, the mean says lower
        frame = rows_over(4, a=(50.0, 51.0, 52.0), b=(49.0, 50.0, 51.0))
        far = (frame["variant"] == "a") & (frame["task"] == "task3") & (frame["seed"] == 2)
        found = ranking.comparisons(frame.assign(top1=frame["top1"].mask(far, 0.0)))
        assert found["difference"][0] < 0 and found["p_holm"][0] <= 0.05
        assert found["verdict"][0] == "ranks and mean disagree"

    def test_only_fresh_trials_of_one_teacher_and_data_file_are_a_pair(self):
        rows = frame_rows(90.0, 91.0, 92.0, 93.0) + frame_rows(80.0, 81.0, 82.0, 83.0, variant="b")
        for row, other in zip(rows[4:], ("teacher_digest", "data_digest", "stale"), strict=False):
            row[other] = "another"
        found = ranking.comparisons(pd.DataFrame(rows), [("cpsc", "b")])
        assert (found["pairs"][0], found["asked"][0]) == (1, 4) and found["difference"][0] == 10.0

    def test_failures_leave_no_pair(self):
        rows = frame_rows(90.0, None) + frame_rows(None, 80.0, variant="b")
        found = ranking.comparisons(pd.DataFrame(rows))
        assert found["verdict"][0] == "no pair" and math.isnan(found["p"][0])

    def test_nothing_ran_yet(self):
        rows = frame_rows(0.0, status="missing") + frame_rows(0.0, variant="b", status="missing")
        found = ranking.comparisons(pd.DataFrame(rows).drop(columns="top1"))
        assert list(found["verdict"]) == ["no pair"] and found["asked"][0] == 1

    def test_references_and_controls_are_compared_only_when_asked(self):
        rows = frame_rows(90.0, 91.0) + frame_rows(99.0, 98.0, variant="kd", reference=True)
        rows += frame_rows(40.0, 41.0, variant="noise", control=True)
        assert ranking.comparisons(pd.DataFrame(rows)).empty
        assert ranking.comparisons(pd.DataFrame(rows), [("cpsc", "noise")])["difference"][0] == 50.0


class TestTwins:
    """The same trials under two names are one row of a ranking and of a family."""

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        alone = rows_over(4, a=(95.0,), b=(90.0,), c=(85.0,))
        return alone, pd.concat([alone, alone[alone["variant"] == "a"].assign(variant="alias")])

    def test_ranks_are_those_without_it(self):
        few, more = (ranking.ranks(main(frame)) for frame in self.frames())
        assert more.left_out == {"alias": "the same trials as a"}
        assert few.names == more.names == ("a", "b", "c") and few.mean_ranks == more.mean_ranks == (1, 2, 3)
        assert few.cd == more.cd and few.p == more.p and few.groups == more.groups

    def test_comparisons_are_those_without_it(self):
        few, more = (ranking.comparisons(frame) for frame in self.frames())
        assert list(zip(more["row"], more["against"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
        pd.testing.assert_frame_equal(few, more)

    def test_who_is_asked_for_is_tested(self):
        _, both = self.frames()
        assert list(ranking.comparisons(both, [("alias", "b")])["row"]) == ["alias"]


class TestRanks:
    def test_over_five_cells(self):
        frame = rows_over(5, a=(90.0,), b=(80.0,), c=(70.0,), d=(60.0,))
        got = ranking.ranks(main(frame))
        assert (got.names, got.mean_ranks) == (("a", "b", "c", "d"), (1.0, 2.0, 3.0, 4.0))
        # no noise at all: chi2 = N (k - 1) = 15; q = 2.569
        assert got.statistic == pytest.approx(15) and got.p == pytest.approx(scipy.stats.chi2.sf(15, 3))
        assert got.cd == pytest.approx(2.569 * math.sqrt(4 * 5 / 30), rel=1e-3)
        assert got.groups == ((0, 2), (1, 3)) and got.reason == "" and len(got.cells) == 5

    def test_without_a_difference_all_are_one_group(self):
        frame = rows_over(4, a=(50.0,), b=(50.0,), c=(50.0,))
        got = ranking.ranks(main(frame))
        assert got.p == 1.0 and got.groups == ((0, 2),) and got.mean_ranks == (2.0, 2.0, 2.0)

    def test_too_few_cells_say_how_many_are_needed(self):
        got = ranking.ranks(main(rows_over(2, a=(1.0,), b=(2.0,), c=(3.0,))))
        assert got.reason == "2 cells: 3 rows need at least 3 to be told apart"
        assert got.groups == () and math.isnan(got.cd) and got.mean_ranks == (1.0, 2.0, 3.0)

    def test_two_rows(self):
        got = ranking.ranks(main(rows_over(9, a=(1.0,), b=(2.0,))))
        assert got.reason.startswith("2 rows ranked in every cell")

    def test_a_row_that_lacks_a_cell_is_left_out(self):
        frame = rows_over(3, a=(1.0,), b=(2.0,), c=(3.0,), d=(4.0,))
        lacks = (frame["variant"] == "d") & (frame["task"] == "task1")
        frame.loc[lacks, ["status", "top1"]] = ["failed", math.nan]
        got = ranking.ranks(main(frame))
        assert got.names == ("c", "b", "a") and got.left_out == {"d": "ranked in 2 of 3 cells"}

    def test_nothing_is_ranked(self):
        got = ranking.ranks(main(pd.DataFrame(frame_rows(None, None))))
        assert got.names == () and got.reason == "no row is ranked in every cell"
        assert layout(got, ranking.comparisons(pd.DataFrame(frame_rows(None)))) == []

    @pytest.mark.parametrize(
        ("means", "cd", "groups"),
        [
            ((1.0, 2.0, 3.0), 0.5, ()),
            ((1.0, 1.5, 3.0, 3.4), 1.0, ((0, 1), (2, 3))),
            ((1.0, 2.0, 3.0), 1.0, ((0, 1), (1, 2))),
            ((1.0, 1.2, 1.4, 4.0), 1.0, ((0, 2),)),  # no group within another
        ],
    )
    def test_groups_by_hand(self, means, cd, groups):
        assert ranking._groups(means, cd) == groups


class TestSection:
    def test_what_is_not_testable_says_why(self):
        frame = rows_over(1, a=(50.0, 51.0, 52.0), b=(10.0, 11.0, 12.0))
        (table,) = layout(ranking.ranks(main(frame)), ranking.comparisons(frame))
        assert not table.lines and "Of 1 comparisons none has the pairs" in table.facts[0]
        assert table.notes == [
            "a against b: not testable at n = 3 (smallest p possible: 0.25).",
            "At least 6 pairs that differ are needed for p = 0.05.",
        ]

    def test_many_comparisons_show_those_that_stand(self):
        made = {f"m{i}": (50.0 + (i == 9) * 20, 51.0 + (i == 9) * 20, 52.0 + i * 1e-3) for i in range(10)}
        frame = rows_over(4, **made)
        (_, tests) = layout(ranking.ranks(main(frame)), ranking.comparisons(frame))
        assert all(line.cells[-1] in ("higher", "lower") for line in tests.lines) and len(tests.lines) < 45

    @pytest.mark.parametrize(
        ("p", "text"),
        [(0.5, "0.50"), (0.0312, "0.031"), (0.01, "0.010"), (0.00001, "< 0.0001"), (math.nan, "–")],  # noqa: RUF001
    )
    def test_p(self, p, text):
        assert p_text(p) == text
