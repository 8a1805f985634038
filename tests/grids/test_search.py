"""Searching settings: what is drawn, stopped and kept; and that no test image decides anything."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from scipy import stats

from benchmarks.shared.tuned import DIGITS
from harness import registry
from harness.cli.search import run_search
from harness.compute import Compute
from harness.config import Budget, Recipe, Trial
from harness.grids import chosen, draws, expand, load
from harness.grids.draws import Axis
from harness.grids.goal import Goal, Tried
from harness.grids.search import Search
from harness.metrics.accuracy import val
from harness.metrics.base import Evidence
from harness.schedule.attempt import Errand
from harness.schedule.rungs import Climb, Rungs, points_for
from harness.settings import choice, log, resolve, uniform
from harness.store.directory import TrialDir
from harness.tasks import images
from harness.tasks.catalog import RECIPES
from harness.trials import examine, loop, teachers
from harness.trials import trial as trials
from tests.build import refused, trial_of
from tests.schedule.noop_search import HERE, top1
from tests.schedule.noop_trial import TEACHER, calls

OVER = {"lr_s": Axis(log(1e-3, 0.3)), "student_bn": Axis(choice("train", "eval"))}


def make(
    method: str = "dfad", recipe: Recipe = RECIPES["small"], budget: float = 90, **settings: Any
) -> Trial:
    return trial_of(
        method, settings, teacher="lenet5_bn", student="lenet5_half_bn", recipe=recipe, seed=100, points=9,
        budget=Budget(amount=budget, unit="student_updates"),
    )  # fmt: skip


def goal(over: dict[str, Axis] | None = None, start: Trial | None = None, **more: Any) -> Goal:
    return Goal(start=start or make(batch=16), given={"batch": 16}, over=over or OVER, **more)


def go(what: Goal, out: Path, trials: int = 8, **options: Any) -> Search:
    options = {"workers": 0} | options
    return run_search(what, errand(out), trials, **options)[0]


def errand(out: Path) -> Errand:
    return Errand(out, out / "teachers", run_trial=HERE, have_teacher=TEACHER)


def best_of(search: Search) -> Tried | None:
    return search.goal.best(search.tries())


def told(search: Search) -> list[str]:
    return [each.ended for each in search.tries()]


def ran(search: Search) -> list[int]:
    """How often each trial was run."""
    return [len(calls(run)) for run in search.runs.values()]


def files(search: Search) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in search.folder.iterdir() if f.suffix in (".json", ".py")}


# --- draws --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "u", "value"),
    [
        (Axis(log(0.01, 1)), 0.5, 0.1),
        (Axis(log(1e-3, 0.3)), 0.5, 0.0173),  # the root of 3e-4, 0.0173205, in three digits
        (Axis(uniform(0.1, 1.0)), 0.25, 0.325),
        (Axis(uniform(-1, 1)), 0.0, -1),
        (Axis(choice("a", "b", "c")), 0.34, "b"),
        (Axis(choice("a", "b", "c")), 0.999, "c"),
        (Axis(log(1, 64), True), 0.5, 8),
        (Axis(uniform(0.4, 3.6), True), 0.0, 1),  # 0 would lie outside
        (Axis(log(1 / 60, 1)), 0.0, 1 / 60),  # three digits, 0.0167, are inside; a fourth less would not be
    ],
)
def test_a_share_of_a_space_is_this_value(axis: Axis, u: float, value: Any) -> None:
    found = draws.place(axis, u)
    assert found == (pytest.approx(value, rel=3e-3) if isinstance(value, float) else value)
    assert isinstance(found, int) or not axis.whole


def test_draws_stay_inside_and_are_spread_as_the_space_says() -> None:
    over = {"a": Axis(log(1e-3, 0.3)), "b": Axis(choice(1, 2, 3))}
    found = [draws.drawn(over, 0, n) for n in range(2000)]
    a = [each["a"] for each in found]
    assert min(a) >= 1e-3 and max(a) <= 0.3
    span = np.log(0.3) - np.log(1e-3)
    assert stats.kstest(np.log(a), stats.uniform(np.log(1e-3), span).cdf).pvalue > 0.01
    counts = [sum(each["b"] == option for each in found) for option in (1, 2, 3)]
    assert stats.chisquare(counts).pvalue > 0.01
    assert abs(stats.spearmanr(a, [each["b"] for each in found]).statistic) < 0.06


def test_a_draw_depends_on_its_setting_and_number_alone() -> None:
    more = OVER | {"lr_g": Axis(log(1e-4, 1e-2))}
    for n in range(5):
        wide = draws.drawn(more, 0, n)
        assert {k: wide[k] for k in OVER} == draws.drawn(OVER, 0, n)
    assert draws.drawn(OVER, 1, 0) != draws.drawn(OVER, 0, 0) != draws.drawn(OVER, 0, 0, again=1)


def test_what_is_searched_by_default() -> None:
    cls = registry.methods.get("zskt")
    settings = resolve("zskt", cls.HP, cls.PRESETS, {"protocol": "datafree"})
    found = draws.axes("zskt", cls.HP, (), settings)
    assert list(found) == ["lr_s", "schedule", "lr_g", "student_bn"]  # at = 0 there: the term stays away
    assert list(draws.axes("zskt", cls.HP, ["at", "lr_s"], settings)) == ["lr_s", "at"]
    assert found["lr_s"] == Axis(log(1e-4, 0.3)) and found["student_bn"].space.options == ("train", "eval")


# --- rungs --------------------------------------------------------------------------------------


def test_a_trial_worse_than_the_best_third_of_those_before_it_is_stopped() -> None:
    rungs = Rungs(3)
    assert not rungs.stops("a", 1, 10.0)  # nobody was there
    assert rungs.stops("b", 1, 5.0)  # below 10
    # the quantile 2/3 of 5 and 10 is 5 + 2/3 (10 - 5) = 8.333
    assert rungs.stops("c", 1, 8.3)
    # of 5, 8.3, 10: at (3 - 1) 2/3 = 1.333, so 8.3 + 0.333 (10 - 8.3) = 8.867
    assert not rungs.stops("d", 1, 8.87)
    assert not rungs.stops("e", 3, 1.0)  # the first on the next rung


def test_rungs_are_at_a_ninth_and_a_third_and_never_at_the_end() -> None:
    rungs = Rungs(3)
    assert [rungs.reached(p) for p in (0, 1, 2, 3, 8, 9, 12)] == [None, 1, 1, 3, 3, None, None]
    assert (points_for(3), points_for(2), points_for(0)) == (9, 4, 9)
    assert Rungs(0).reached(5) is None
    climb, rows = Climb(3, "val_nll"), [{"point": p, "val_nll": 1.0 / p} for p in (2, 3, 5, 9)]
    assert [climb(row) for row in rows] == [{"rung": 1, "score": -0.5}, {"rung": 3, "score": -1 / 3}, {}, {}]
    # a round that leaps over the first rung is judged at the second alone
    late = Climb(3, "val_nll")
    assert [late(row).get("rung") for row in rows[1:]] == [3, None, None]


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("eta", [2, 3, 4])
def test_the_rule_is_that_of_rays_asha(eta: int) -> None:
    from ray.tune.schedulers import ASHAScheduler

    for seed in range(20):
        rng = random.Random(seed)
        theirs = ASHAScheduler("rung", "score", "max", max_t=eta**2, grace_period=1, reduction_factor=eta)
        ours, stopped = Rungs(eta), 0
        live = {f"t{i}": [1, eta] for i in range(12)}
        for id in live:
            theirs.on_trial_add(None, SimpleNamespace(trial_id=id))
        while live:
            id = rng.choice(sorted(live))
            rung, score = live[id].pop(0), round(rng.gauss(0, 1), 1)  # with ties
            verdict = theirs.on_trial_result(
                None, SimpleNamespace(trial_id=id), {"rung": rung, "score": score}
            )
            stops = ours.stops(id, rung, score)
            assert stops == (verdict == "STOP")
            stopped += stops
            if stops or not live[id]:
                del live[id]
        assert 0 < stopped < 12


# --- a search -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Of twelve trials, at its end."""
    return go(goal(), tmp_path_factory.mktemp("twelve"), 12)


def test_a_search_tries_so_many_settings_and_chooses_the_best_that_went_to_its_end(search: Search) -> None:
    tries = search.tries()
    assert len(tries) == 12 and search.complete()
    assert tries[0].values == {"lr_s": 0.1, "student_bn": "train"}  # the settings as they stood come first
    assert tries[0].ended == "done"
    assert {"done", "stopped"} == set(told(search))
    for each in tries:
        assert each.val_top1 == top1(each.values["lr_s"], each.point / 9)
        assert each.point == 9 if each.ended == "done" else each.point in (1, 3)
    assert ran(search) == [1] * 12
    best = best_of(search)
    assert best and best.val_top1 == max(each.val_top1 for each in tries if each.ended == "done")
    # whoever was stopped would not have been chosen: the curves of this problem do not cross
    assert all(top1(e.values["lr_s"], 1.0) <= best.val_top1 for e in tries)


def test_what_decides_is_asked_for() -> None:
    seen = [("done", 3.0, 50.0), ("done", 1.0, 40.0), ("done", 2.0, 50.0), ("stopped", 0.0, 90.0)]
    tries = [Tried(n, str(n), {}, ended, 9, nll, right) for n, (ended, nll, right) in enumerate(seen)]
    assert goal().best(tries) == tries[2]  # equal val_top1: the less val_nll
    assert goal(by="val_nll").best(tries) == tries[1]
    assert goal().best(tries[3:]) is None


def test_the_record(search: Search) -> None:
    found = json.loads((search.folder / "search.json").read_text())
    over = {"lr_s": "0.001 to 0.3, by its logarithm", "student_bn": "one of train, eval"}
    assert found["trials_used"] == 12 and found["complete"] and found["asked"]["over"] == over
    assert found["stopped_early"] == told(search).count("stopped")
    best = best_of(search)
    assert best and found["chosen"]["trial"] == best.id and found["chosen"]["settings"] == best.values
    rows = [(row["trial"], row["ended"], row["settings"]) for row in found["trials"]]
    assert rows == [(each.id, each.ended, each.values) for each in search.tries()]
    assert {row["budget_percent"] for row in found["trials"]} <= {11.1, 33.3, 100.0}


def test_the_choice_is_a_grid_beside_what_was_before_on_other_seeds(search: Search) -> None:
    best = best_of(search)
    assert best and best.number
    grid = load.load(search.folder / "chosen.py")
    assert grid.contrasts == {"dfad": "dfad before"} and 100 not in grid.seeds
    of = {t.label: t for t in expand.trials_of(grid)}
    assert of["dfad"].settings == search.trials[best.id].settings
    assert of["dfad before"].settings == search.goal.start.settings
    assert of["dfad"].model_copy(update={"seed": 100}).id == best.id  # nothing else is another
    assert "12 trials" in grid.note and "validation" in grid.note
    pasted: dict[str, Any] = {}
    exec(f"found = dict({chosen.block(search.goal, search.tries(), best)})", pasted)
    cls = registry.methods.get("dfad")
    assert resolve("dfad", cls.HP, cls.PRESETS, pasted["found"]["settings"]["dfad"]) == of["dfad"].settings


def test_what_ran_is_not_run_again_and_more_trials_go_on_from_there(tmp_path: Path) -> None:
    first = go(goal(), tmp_path, 4)
    kept = first.tries()
    assert files(go(goal(), tmp_path, 4)) == files(first)
    longer = go(goal(), tmp_path, 9)
    assert longer.tries()[:4] == kept and len(longer.tries()) == 9
    assert ran(longer) == [1] * 9
    assert files(longer) == files(go(goal(), tmp_path / "at once", 9))
    assert len(go(goal(), tmp_path, 2).tries()) == 9  # the effort was nine, and is told so
    assert go(goal(draw=1), tmp_path, 2).folder != first.folder


@pytest.mark.parametrize("trap", ["ctrl-c", "disk"])
def test_a_search_that_was_stopped_goes_on_to_the_same_end(tmp_path: Path, trap: str) -> None:
    what, whole = goal(), go(goal(), tmp_path / "whole", 6)
    victim = next(e for e in whole.tries() if e.ended == "done" and e.number)
    folder = what.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / trap).write_text(f"dfad, trial {victim.number}")
    search, interrupted = run_search(what, errand(tmp_path), 6, workers=0)
    assert interrupted == (trap == "ctrl-c") and not search.complete()
    assert told(search)[victim.number] == "open" and not (folder / "chosen.py").exists()
    reason = search.tries()[victim.number].reason
    assert ("Ctrl-C" if interrupted else "No space left") in reason
    again = go(what, tmp_path, 6)
    assert again.complete() and ran(again).count(2) == 1
    if interrupted:  # after a full disk the other trials were judged without this one
        assert files(again) == files(whole)


def test_a_failure_counts_and_is_never_chosen(tmp_path: Path) -> None:
    lines: list[str] = []
    over = {"lr_g": Axis(log(1e-3, 1e-2)), "lr_s": Axis(log(1e-3, 0.3))}
    search = go(goal(over), tmp_path, 8, tell=lines.append)
    bad = [each for each in search.tries() if each.values["lr_g"] > 0.005]
    assert bad and all(e.ended == "failed" and e.val_top1 is None for e in bad)
    assert all("loss of 'G' is not finite" in e.reason for e in bad)
    assert search.complete() and json.loads((search.folder / "search.json").read_text())["trials_used"] == 8
    assert best_of(search) not in bad
    assert lines.pop(0) == "teacher lenet5_bn on digits: top1 99.00, trained in 1 s"
    # 90 - 20 log10(0.1 / 0.03) = 79.542
    assert len(lines) == 8 and lines[0].startswith("[1/8] done    trial 0  val_top1 79.542  (about ")
    assert sum("failed" in line and "not finite" in line for line in lines) == len(bad)


def test_a_space_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    what = goal({"student_bn": OVER["student_bn"], "schedule": Axis(choice("cosine", "off"))}, eta=0)
    search = go(what, tmp_path, 20)
    found = {tuple(each.values.values()) for each in search.tries()}
    # "steps" is where it began, and no draw comes back to it; without rungs each goes to its end
    assert told(search) == ["done"] * 5 and len(found) == 5 and search.exhausted and search.complete()
    again = go(what, tmp_path, 20)
    assert again.complete() and ran(again) == [1] * 5


def test_what_ends_a_search_before_any_trial(tmp_path: Path) -> None:
    untaught = goal(start=make(batch=16).model_copy(update={"teacher": "lenet5"}))  # the stand-in has none
    goal().folder(tmp_path).mkdir(parents=True)
    with FileLock(goal().folder(tmp_path) / "lock"):
        for what, told in (
            (goal(), "is running elsewhere"),
            (untaught, "no teacher: teacher lenet5 on digits: accuracy 10"),
        ):
            refused(lambda what=what: go(what, tmp_path), told)
            assert not list(tmp_path.rglob("trials/*"))


def test_a_search_does_not_go_on_where_things_were_others_or_are_damaged(tmp_path: Path) -> None:
    search = go(goal(), tmp_path, 2)
    run = next(iter(search.runs.values()))
    run.write_json("result.json", (run.result() or {}) | {"provenance": {"torch": "1.0.0"}})
    refused(lambda: go(goal(), tmp_path, 3), "another thing (torch was 1.0.0, is ", "): move it away")
    (search.folder / "search.json").write_text("{")
    refused(lambda: go(goal(), tmp_path, 2), "search.json cannot be read (", "): move its folder away")


# --- Ray ----------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("ray")
def test_one_worker_on_ray_does_what_this_process_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = go(goal(draw=1), tmp_path / "here", 4)
    assert told(here) == ["done", "stopped", "stopped", "done"]
    capfd.readouterr()
    go(goal(draw=1), tmp_path / "ray", 2)
    there = go(goal(draw=1), tmp_path / "ray", 4, workers=1)  # ASHA knows of the first two
    assert files(there) == files(here) and ran(there) == [1] * 4
    assert capfd.readouterr() == ("", "")


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("ray")
def test_a_search_on_ray_outlives_failures_of_method_and_machine(tmp_path: Path) -> None:
    what = goal({"lr_g": Axis(log(5e-3, 1e-2))}, eta=0)
    folder = what.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "disk").write_text("dfad, trial 0")
    search = go(what, tmp_path, 2, workers=2)
    assert search.complete() and told(search) == ["done", "failed"]
    assert ran(search) == [2, 1]  # the machine's failure was tried again


# --- the test images ----------------------------------------------------------------------------

TINY = Recipe(name="small", epochs=1, lr=0.05, batch=64)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("teachers")
    teachers.train(home, "digits", "lenet5_bn", TINY, 0, threads=1)
    return home


class Secret:
    """Stands where the test images were: whoever looks is found out, and who counts them, too."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a search looked at the test split: {name}")


def put_test(patch: pytest.MonkeyPatch, other: Callable[[images.Split], Any]) -> None:
    """Put something else where the test images are."""
    real = images.load

    def loaded(*where: Any, **how: Any) -> images.TaskData:
        found = real(*where, **how)
        return dataclasses.replace(found, test=other(found.test))

    patch.setattr(images, "load", loaded)


def on_val(trial: Trial, out: Path, home: Path, **more: Any) -> TrialDir:
    run = TrialDir(out, trial)
    with run.lock():
        trials.run_trial(trial, run, teachers_dir=home, on="val", **more)
    return run


@pytest.mark.parametrize("method", ["noise", "kd"])
def test_no_trial_of_a_search_sees_the_test_split(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    trial = make(method, TINY, budget=18, batch=16)
    plain = on_val(trial, tmp_path / "plain", home)
    put_test(monkeypatch, lambda test: Secret())
    blind = on_val(trial, tmp_path / "blind", home)
    curves = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.curve()] for r in (plain, blind)]
    assert curves[0] == curves[1] and len(curves[0]) == 9
    for row in curves[1]:
        assert {"val_top1", "val_nll"} <= set(row) and not {"top1", "agreement"} & set(row)
    result = blind.result()
    assert result and result["metrics"] == {k: curves[1][-1][k] for k in ("val_top1", "val_nll")}
    assert not {f.name for f in blind.path.iterdir()} & {
        "samples.npz",
        "confusion.npy",
        "predictions.npz",
        "final",
    }
    assert "teacher_top1" not in result["provenance"]  # measured on test images


def test_a_choice_is_the_same_whatever_the_test_labels_are(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"lr_s": Axis(log(1e-3, 0.3)), "tau": Axis(log(1, 20))}
    what = goal(over, make("noise", TINY, budget=18, batch=16))

    def trials(out: Path) -> bytes:
        search, _ = run_search(what, Errand(out, home, have_teacher=TEACHER), 3, workers=0)
        assert search.complete()
        return (search.folder / "search.json").read_bytes()

    as_it_is = trials(tmp_path / "a")
    put_test(monkeypatch, lambda test: images.Split(255 - test.images, (test.labels + 3) % 10))
    assert trials(tmp_path / "b") == as_it_is


def test_the_validation_numbers_are_those_of_the_metric() -> None:
    found = images.load("digits")
    logits = torch.randn(len(found.val), 10, generator=torch.Generator().manual_seed(0)) * 4

    class Says(torch.nn.Module):
        def forward(self, x: torch.Tensor, taps: tuple[str, ...] = ()) -> Any:
            return SimpleNamespace(logits=logits, h=logits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine, "Out", SimpleNamespace)
        seen = examine.Validator(found, Says(), Compute())(Says())
    ev = Evidence(
        found.task, found.test.labels, *[logits.numpy()] * 3, found.test.images, None,
        val_labels=np.asarray(found.val.labels), val_logits=logits.numpy(),
    )  # fmt: skip
    assert seen == pytest.approx(val(ev), rel=1e-12)


def test_a_reference_learns_from_no_validation_image() -> None:
    found = images.load("digits")
    rest = trials.blind(found, reference=True).train
    assert len(rest) + len(found.val) == len(found.train)
    as_bytes = [sorted(image.tobytes() for image in split.images) for split in (rest, found.val, found.train)]
    assert sorted(as_bytes[0] + as_bytes[1]) == as_bytes[2]
    assert trials.blind(found, reference=False).train is found.train


def test_a_trial_of_a_search_goes_on_from_its_checkpoint_and_tells_of_the_rows_that_stand(
    tmp_path: Path, home: Path
) -> None:
    often = loop.Pace(every=0.0, share=1e9)
    trial = make("noise", TINY, budget=18, batch=16)
    whole = on_val(trial, tmp_path / "whole", home)

    def stop(row: dict[str, Any]) -> None:
        if row["point"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_val(trial, tmp_path, home, on_point=stop, pace=often)
    points: list[int] = []
    run = on_val(trial, tmp_path, home, on_point=lambda row: points.append(row["point"]), pace=often)
    assert points == list(range(1, 10))
    a, b = whole.result(), run.result()
    assert a and b and a["metrics"] == b["metrics"]


# --- the command --------------------------------------------------------------------------------


def test_a_search_as_a_person_sees_it(dfkd: Any, monkeypatch: Any, tmp_path: Path, home: Path) -> None:
    monkeypatch.setitem(RECIPES, "small", TINY)
    words = "search noise --from digits --pair lenet5_bn:lenet5_half_bn --budget 18:student_updates".split()
    words += "--set noise.batch=16 --over lr_s,tau --trials 3 --workers 0 --teachers".split()
    words += [str(home), "--out", str(tmp_path)]
    code, out, err = dfkd(*words)
    assert code == 0, err
    assert [line.split()[0] for line in err.splitlines()] == ["[1/3]", "[2/3]", "[3/3]"]
    table = out.split("\n\n")[0].splitlines()
    assert table[0].split() == ["trial", "lr_s", "tau", "val_nll", "val_top1", "budget", "%", "ended", "why"]
    assert len(table) == 4 and sum("chosen" in row for row in table) == 1
    assert "3 of 3 trials used" in out and "to paste into a grid" in out and "No test image was seen" in out
    folder = next((tmp_path / "search").iterdir())
    assert folder.name.startswith("noise-digits-lenet5_bn-lenet5_half_bn-")
    again = dfkd(*words, "--json")
    assert again.err == ""
    found = again.json
    assert found["trials_used"] == 3 and found["folder"] == str(folder)
    first = found["trials"][0]["settings"]
    assert found["asked"]["given"]["batch"] == 16 and first["lr_s"] == DIGITS["noise"]["lr_s"]
    listed = dfkd("list", folder / "chosen.py", "--json").json
    assert {t["seed"] for t in listed} == {0, 1, 2}
