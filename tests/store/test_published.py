"""Published results: what a folder of them holds, that its report comes out again, that its trials do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import registry
from harness.cli import choose
from harness.config import Grid
from harness.grids import expand, load, override
from harness.schedule.attempt import Errand
from harness.schedule.run import run_trials
from harness.store import published
from harness.store.directory import Store, TrialDir
from harness.store.frame import curves, frame
from harness.store.stale import Staleness
from harness.tasks import catalog
from tests.build import populate
from tests.conftest import Said

pytestmark = pytest.mark.xdist_group("archive")  # one world for all

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
GRID = """
from harness.config import Budget, Grid
GRID = Grid(
    tasks=("cifar10",), pairs=(("resnet34", "resnet18"),), seeds=(0, 1), budget=Budget(amount=5000,
    unit="student_updates"), variants={"cpsc": ("cpsc", {}), "no CFE": ("cpsc", {"cfe_layers": "none"}),
    "adi": ("adi", {}), "dfq": ("dfq", {})}, contrasts={"no CFE": "cpsc"}, note="How they were found.",
)
"""
Dfkd = Callable[..., Said]


@dataclass
class World:
    """A grid's file, its store, and the folder that `dfkd publish` made of it."""

    file: Path
    out: Path
    folder: Path
    grid: Grid

    @property
    def ids(self) -> dict[tuple[str, int], str]:
        return {(t.label, t.seed): t.id for t in expand.trials_of(self.grid)}

    def write(self, to: Path, out: Path | None = None) -> published.Archive:
        """The archive alone, of a store like this one's."""
        return archived(to, self.grid, out or self.out)


def archived(to: Path, grid: Grid, out: Path) -> published.Archive:
    """A published folder without its report, which takes seconds."""
    to.mkdir(parents=True, exist_ok=True)
    stale = Staleness(out / "teachers")
    data = published.pack(grid, expand.trials_of(grid), Store(out), stale, "dfkd run mine.py")
    (to / published.NAME).write_bytes(data)
    return published.Archive(to)


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as old:
        return {name: old.read(name) for name in old.namelist()}


def zipped(file: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Four finished trials, one that failed, one skipped, one killed, and one that waits (dfq, seed 1)."""
    root = tmp_path_factory.mktemp("world")
    (root / "mine.py").write_text(GRID)
    grid, out = load.load(root / "mine.py"), root / "runs"
    trials = {(t.label, t.seed): t for t in expand.trials_of(grid)}
    populate(out, [t for t in trials.values() if t.label in ("cpsc", "no CFE")], images=700, side=8)
    for (row, seed), kind in {("adi", 0): "method", ("adi", 1): "skip", ("dfq", 0): "killed"}.items():
        failed = TrialDir(out, trials[row, seed])
        failed.fail(kind, "loss of 'G' is not finite", f"Traceback of {root}/secret.py")
    words = ["publish", root / "mine.py", "--out", out, "--to", root / "p" / "mine"]
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli.main import main; main()", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "8 trials" in done.stdout
    return World(root / "mine.py", out, root / "p" / "mine", grid)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_published_folder_says_what_the_store_says(world: World) -> None:
    kept, dirs, trials = published.Archive(world.folder), Store(world.out), expand.trials_of(world.grid)
    assert kept.trials == trials
    assert kept.grid == world.grid.model_copy(update={"name": "mine"})
    ended = [t for t in trials if t.label != "dfq"]
    pd.testing.assert_frame_equal(frame(ended, kept.store), frame(ended, dirs))
    pd.testing.assert_frame_equal(curves(ended, kept.store), curves(ended, dirs))
    states = {(t.label, t.seed): kept.store.look(t).status for t in kept.trials}
    assert (states["adi", 0], states["adi", 1]) == ("failed", "skipped")
    assert (states["dfq", 0], states["dfq", 1]) == ("missing", "missing")  # a kill is no result
    assert kept.done == [t for t in trials if states[t.label, t.seed] == "done"]
    assert kept.command == "dfkd run mine.py"
    place = kept.store.out
    del kept.store
    assert not place.exists()  # what was unpacked goes with its store
    tidy = pd.read_csv(kept.folder / "trials.csv")
    assert list(tidy["id"]) == [t.id for t in trials]
    assert tidy["status"].tolist().count("done") == 4


def test_a_grid_goes_on_from_what_is_published(world: World, tmp_path: Path, dfkd: Dfkd) -> None:
    code, said, _ = dfkd("merge", world.folder, "--out", tmp_path / "runs")
    assert code == 0
    assert "6 trials copied" in said
    again = world.write(tmp_path / "again", tmp_path / "runs").file.read_bytes()
    assert again == (world.folder / published.NAME).read_bytes()  # publishes as it was published
    code, said, _ = dfkd("merge", world.folder, "--out", tmp_path / "runs")
    assert (code, said) == (0, "0 trials copied, 6 there already\n")


def test_images_are_kept_of_the_first_seed_and_thinned(world: World) -> None:
    kept, first, second = published.Archive(world.folder), world.ids["cpsc", 0], world.ids["cpsc", 1]
    whole, thin = Store(world.out).samples(first), kept.store.samples(first)
    assert whole and thin
    assert len(whole["y"]) == 700
    assert np.bincount(thin["y"]).tolist() == [published.PER_CLASS] * 10
    at = np.sort(np.concatenate([np.flatnonzero(whole["y"] == k)[:10] for k in range(10)]))
    for name in ("images", "y", "t", "s", "h"):
        assert np.array_equal(thin[name], whole[name][at])
    assert kept.store.samples(second) is None
    one, other = kept.store.predictions(second), Store(world.out).predictions(second)
    assert one and other
    assert np.array_equal(one["s"], other["s"])


def test_the_report_comes_out_again_from_the_folder_alone(dfkd: Dfkd, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(world.folder, folder)
    (folder / "report.md").write_text("something else")
    (folder / "figures" / "of-an-older-report.svg").write_text("<svg/>")
    anew = f"dfkd: {folder} is published: its report is written anew of all its trials and in its place, with"
    for more in (["--to", tmp_path / "other"], ["--to", folder, "--methods", "cpsc"]):
        assert dfkd("publish", folder, *more)[::2] == (2, f"{anew} --to {folder}\n")
    assert dfkd("publish", folder, "--to", folder)[0] == 0
    assert files(folder) == files(world.folder)
    assert any(path.name.startswith("differences") for path in (folder / "figures").iterdir())
    text = (folder / "report.md").read_text("utf-8")
    for said in ("dfkd run", "mine.py", "How they were found.", "4 of 8 trials done"):
        assert said in text


def test_the_same_trials_are_the_same_bytes_and_name_no_folder(world: World, tmp_path: Path) -> None:
    one, two = world.write(tmp_path / "a"), world.write(tmp_path / "b")
    assert one.file.read_bytes() == two.file.read_bytes()
    inside = b"".join(members(one.file).values())
    assert str(world.out.parent).encode() not in inside
    assert b"not finite" in inside


def test_what_cannot_be_published(dfkd: Dfkd, world: World, tmp_path: Path) -> None:
    to, empty = tmp_path / "p", tmp_path / "empty"
    nothing = dfkd("publish", world.file, "--out", empty, "--to", to)
    nothing.refuses(f"dfkd: none of 8 trials has ended under {empty}: nothing to publish\n")
    run = TrialDir(tmp_path / "runs", expand.trials_of(world.grid)[0])
    with run.lock():
        run.prepare()
        running = dfkd("publish", world.file, "--out", tmp_path / "runs", "--to", to)
    running.refuses(f"dfkd: trial {run.id} is running: publish when it has ended\n")
    assert not to.exists()


def test_a_folder_of_other_things_stays_as_it_is(dfkd: Dfkd, world: World, tmp_path: Path) -> None:
    (tmp_path / "p" / "figures").mkdir(parents=True)
    (tmp_path / "p" / "figures" / "logo.svg").write_text("<svg/>")
    (tmp_path / "file").write_text("text")
    for name in ("p", "file"):
        to = tmp_path / name
        said = f"dfkd: --to {to}: something else is there; name a new folder, or published results\n"
        dfkd("publish", world.file, "--out", world.out, "--to", to).refuses(said)
    assert files(tmp_path) == {"p/figures/logo.svg": b"<svg/>", "file": b"text"}


def test_finished_trials_are_never_lost_and_a_failure_changes_nothing(
    dfkd: Dfkd, world: World, tmp_path: Path
) -> None:
    folder, out = tmp_path / "p" / "mine", shutil.copytree(world.out, tmp_path / "runs")
    shutil.copytree(world.folder, folder)
    where = ("--out", out, "--to", folder)
    (out / "trials" / world.ids["cpsc", 1] / "predictions.npz").write_bytes(b"PK no more")
    dfkd("publish", world.file, *where).refuses("predictions.npz")
    assert files(folder) == files(world.folder)
    shutil.rmtree(out / "trials" / world.ids["cpsc", 1])
    lost = "1 of the finished trials that are published there would be lost"
    dfkd("publish", world.file, *where).refuses(lost)
    assert files(folder) == files(world.folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["mine"]


def test_what_was_stale_stays_apart_and_images_are_of_the_first_seed_that_has_any(
    world: World, tmp_path: Path
) -> None:
    out = shutil.copytree(world.out, tmp_path / "runs")
    (out / "trials" / world.ids["cpsc", 0] / "samples.npz").unlink()
    file = out / "trials" / world.ids["cpsc", 1] / "result.json"
    told = json.loads(file.read_text())
    told["provenance"]["torch"] = "1.0.0"
    file.write_text(json.dumps(told))
    kept = world.write(tmp_path / "mine", out)
    trials = {(t.label, t.seed): t for t in kept.trials}
    assert kept.stale(trials["cpsc", 1], {}).startswith("torch was 1.0.0, is ")
    assert kept.stale(trials["cpsc", 0], {}) == ""
    assert kept.store.samples(world.ids["cpsc", 0]) is None
    assert kept.store.samples(world.ids["cpsc", 1]) is not None


def test_the_command_names_no_folder_of_this_machine(world: World, tmp_path: Path) -> None:
    assert choose.choose(str(world.file), choose.Overrides(seeds="0", methods="no CFE")).command == (
        "dfkd run mine.py --methods 'no CFE' --seeds 0"
    )
    own = Path(override.__file__).parents[2] / "benchmarks" / "digits.py"
    assert choose.choose(str(own)).command == choose.choose("digits").command == "dfkd run digits"


def test_trials_of_another_version_are_not_run(
    dfkd: Dfkd, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.methods.get("cpsc"), "VERSION", 99)
    for command in ("run", "rerun"):
        refused = dfkd(command, world.folder, "--out", world.out)
        refused.refuses("of version 1 of cpsc; here is version 99\n")


@pytest.mark.parametrize(
    "damage", ["zip", "bytes", "json", "version", "no grid", "empty grid", "trials", "no trials", "result"]
)
def test_a_damaged_folder_is_told_in_one_line(dfkd: Dfkd, world: World, tmp_path: Path, damage: str) -> None:
    file = world.write(tmp_path / "mine").file
    inside = members(file)
    about = json.loads(inside["grid.json"])
    about["grid"]["wings"] = 2
    result = next(name for name in inside if name.endswith("result.json"))
    inside |= {
        "json": {"grid.json": b"{"}, "version": {"grid.json": json.dumps(about).encode()},
        "empty grid": {"grid.json": b"{}"}, "trials": {"trials.jsonl": b"{\n"}, "result": {result: b"{}"},
    }.get(damage, {})  # fmt: skip
    inside.pop({"no grid": "grid.json", "no trials": "trials.jsonl"}.get(damage, ""), None)
    if damage == "zip":
        file.write_bytes(b"PK\x03\x04 and no more")
    elif damage == "bytes":
        data = bytearray(file.read_bytes())
        at = data.index(b"trials.jsonl") + 30
        data[at : at + 30] = bytes(30)
        file.write_bytes(data)
    else:
        zipped(file, inside)
    whole = damage in ("json", "version", "no grid", "empty grid")  # the trials, that is
    merged = dfkd("merge", world.folder, file.parent, "--out", tmp_path / "runs")
    assert (tmp_path / "runs").exists() == whole
    if not whole:
        merged.refuses(str(file))
    refused = dfkd("report", file.parent, "--out", tmp_path / "again")
    refused.refuses(str(file))
    assert ("of another version: wings" in refused.err) == (damage == "version")


def test_published_results_are_a_grid_and_a_side_of_a_comparison(dfkd: Dfkd, world: World) -> None:
    listed = dfkd("list", world.folder, "--seeds", "7", "--methods", "cpsc,no CFE", "--json").json
    assert [(t["label"], t["seed"]) for t in listed] == [("cpsc", 7), ("no CFE", 7)]
    assert len(dfkd("results", world.folder, "--json").json) == 8
    part = dfkd("results", world.folder, "--methods", "cpsc", "--json").json
    assert [(row["variant"], row["status"]) for row in part] == [("cpsc", "done"), ("cpsc", "done")]
    refused = f"dfkd: --from mlflow: published results are read from {world.folder} alone\n"
    dfkd("results", world.folder, "--from", "mlflow").refuses(refused)
    held = dfkd("compare", world.out, world.folder, "--json")
    assert held.code == 0, held.err
    assert held.json["counts"]["equal"] == 4


TINY = """
from harness.config import Budget, Grid
GRID = Grid(
    tasks=("digits",), pairs=(("lenet5_half_bn", "lenet5_half_bn"),), seeds=(0, 1), points=2,
    variants={"noise": ("noise", {"batch": 16})}, budget=Budget(amount=2), teacher_recipe="small",
)
"""


def test_a_trial_drawn_at_random_runs_again(
    dfkd: Dfkd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = catalog.RECIPES["small"].model_copy(update={"epochs": 1})
    monkeypatch.setitem(catalog.RECIPES, "small", quick)
    (tmp_path / "tiny.py").write_text(TINY)
    out, folder = tmp_path / "runs", tmp_path / "p" / "tiny"
    grid = load.load(tmp_path / "tiny.py")
    run_trials(expand.trials_of(grid), Errand(out, out / "teachers"), workers=0)
    archived(folder, grid, out)
    again = ("--out", tmp_path / "again", "--workers", 0)
    code, said, error = dfkd("rerun", folder.parent, "--trials", 2, *again)
    assert code == 0, error + said
    assert said.count(" equal") >= 2
    assert "broken" not in said
    assert dfkd("rerun", folder, "--trials", 2, *again)[1].count("run again, but for 2 that were there") == 1
    told = dfkd("rerun", folder, "--trials", 2, *again, "--json").json
    assert told["already_there"] == 2 and {pair["verdict"] for pair in told["pairs"]} == {"equal"}
    # a number that somebody changed is found
    inside = members(folder / published.NAME)
    name = next(name for name in inside if name.endswith("result.json"))
    told = json.loads(inside[name])
    told["metrics"]["top1"] += 1.0
    zipped(folder / published.NAME, inside | {name: json.dumps(told).encode()})
    code, said, error = dfkd("rerun", folder, "--trials", 2, *again)
    assert code == 1
    assert "broken promise" in said
    few = "dfkd: --trials 3: 2 finished trials are published there\n"
    dfkd("rerun", folder, "--trials", 3, *again).refuses(few)
    none = "holds no trials.zip: give folders that `dfkd publish` wrote, or one of such folders"
    dfkd("rerun", tmp_path, *again).refuses(f"dfkd: {tmp_path} {none}\n")


def test_draws_are_seeded_and_without_doubles(world: World, tmp_path: Path) -> None:
    folders = [world.write(tmp_path / name) for name in "ab"]
    once, again, other = ([t.id for _, t in published.drawn(folders, 3, seed)] for seed in (0, 0, 1))
    assert once == again
    assert once != other
    four = {t.id for _, t in published.drawn(folders, 4, 0)}
    assert len(four) == 4  # that are done, though published twice


def committed() -> list[Path]:
    return sorted(path.parent for path in RESULTS.glob(f"*/{published.NAME}"))


@pytest.mark.parametrize("folder", committed(), ids=lambda p: p.name)
def test_committed_tables_are_what_the_archive_gives(dfkd: Dfkd, folder: Path, tmp_path: Path) -> None:
    code, _, error = dfkd("report", folder, "--format", "csv", "--out", tmp_path)
    assert code == 0, error
    made = tmp_path / "reports" / folder.name
    (made / "trials.csv").write_text(dfkd("results", folder, "--csv")[1])
    tables = sorted(folder.glob("*.csv"))
    assert [table.name for table in tables] == sorted(path.name for path in made.glob("*.csv"))
    for table in tables:
        assert (made / table.name).read_bytes() == table.read_bytes(), table.name
