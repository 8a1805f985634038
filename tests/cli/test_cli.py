"""The command as a person meets it: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import typer

from harness import registry
from harness.cli import main, printing
from harness.config import Recipe
from harness.errors import DfkdError
from harness.grids import expand
from harness.grids.load import load
from harness.schedule.board import Summary
from harness.tasks import catalog
from harness.trials.check import Verdict

GRID = """
from harness.config import Budget, Grid
GRID = Grid(
    tasks=("digits",), pairs=(("lenet5_bn", "lenet5_half_bn"),), seeds=(0, 1),
    budget=Budget(amount=4), points=4,
    variants={"kd": ("kd", {"batch": 16}), "dafl": ("dafl", {"batch": 8, "nz": 4, "wide": False})},
)
"""


Dfkd = Callable[..., Any]
pytestmark = pytest.mark.xdist_group("cli")  # one world for all


class World(NamedTuple):
    grid: Path
    out: Path


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory, dfkd) -> Iterator[World]:
    """A finished run of four trials, to be read or copied; a cache and quick teachers for every test."""
    home = tmp_path_factory.mktemp("cli")
    made = World(home / "tiny.py", home / "runs")
    made.grid.write_text(GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFKD_CACHE", str(home / "cache"))
        patch.setenv("DFKD_OUT", "")
        patch.setitem(catalog.RECIPES, "small", Recipe(name="small", epochs=3, lr=0.1, batch=64))
        said = dfkd("run", made.grid, "--out", made.out, "--workers", 0, "--no-mlflow")
        assert said.code == 0, said.err
        yield made


@pytest.fixture
def copied(world, tmp_path) -> Path:
    return Path(shutil.copytree(world.out, tmp_path / "runs"))


def ids(dfkd: Dfkd, world: World, *words: object) -> list[str]:
    return [t["id"] for t in dfkd("list", world.grid, "--json", *words).json]


ONE = ("--methods", "dafl", "--seeds", "0")


def result_of(dfkd: Dfkd, world: World, out: Path) -> Path:
    return out / "trials" / ids(dfkd, world, *ONE)[0] / "result.json"


# --- the command itself -------------------------------------------------------------------------

COMMANDS = "run ablate search list status bench show results report measure sync".split()
COMMANDS += "methods tasks nets metrics check teachers compare merge publish rerun".split()


def test_help_names_every_command(dfkd):
    said = dfkd("--help")
    assert said.code == 0
    listed = said.out.split("Commands:")[1]
    assert sorted(re.findall(r"^  (\w+)", listed, re.MULTILINE)) == sorted(COMMANDS)
    assert "..." not in listed, "every sentence is whole"


def test_every_option_is_explained_and_listings_take_json(dfkd):
    app = typer.main.get_command(main.app)
    found = {**app.commands, **app.commands["teachers"].commands}
    for name, command in found.items():
        assert command.help and command.help.split("\n")[0].endswith("."), name
        assert not [p.name for p in command.params if p.name != "help" and not getattr(p, "help", "")], name
    listings = "list status show results methods tasks nets metrics check compare merge rerun verify"
    for name in listings.split():
        assert "--json" in [word for p in found[name].params for word in p.opts], name
    for words in ("run", "bench", "ablate", "teachers train"):
        assert dfkd(*words.split(), "--help").code == 0


def test_version(dfkd):
    assert dfkd("--version") == (0, f"dfkd-bench {version('dfkd-bench')}\n", "")


def test_a_persons_mistake_is_a_line_and_a_bug_a_traceback(dfkd, monkeypatch):
    app = Mock(side_effect=DfkdError("no such thing"))
    monkeypatch.setattr(main, "app", app)
    assert dfkd() == (2, "", "dfkd: no such thing\n")
    app.side_effect = KeyboardInterrupt()
    assert dfkd().code == 130
    app.side_effect = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        dfkd()


MISTAKES = {
    "ablate kdd --from digits": ("unknown row or method 'kdd'", "did you mean 'kd'"),
    "ablate kd": ("kd with its own defaults needs --task, --pair, --budget; or give --from GRID",),
    "ablate kdd": ("unknown method 'kdd'", "did you mean 'kd'"),
    "ablate kd --from digits --write rows.txt": ("--write rows.txt", "ends in .py"),
    "ablate kd --from digits --set kd.tau=1,2": ("--set kd.tau=1,2: give one value",),
    "ablate kd --from digits --set kd.tao=1": ("unknown setting of kd 'tao'", "did you mean 'tau'"),
    "ablate kd --from digits --set cpsc.beta=1": ("unknown row or method in --set 'cpsc'",),
    "ablate kd --from digits --base w_cd": ("unknown loss weight of kd in --base 'w_cd'", "did you mean"),
    "ablate noise --from digits --only losses": ("noise has nothing to ablate",),
    "search dfad --from digits --over lr": ("unknown setting of dfad 'lr'", "did you mean 'lr_s'"),
    "search dfad --from digits --over batch": ("--over batch: dfad.batch has no space", "lr_s, "),
    "search dfad --from digits --trials 0": ("--trials 0: give 1 or more",),
    "search dfad --from digits --eta 1": ("--eta 1: give 0",),
    "search dfad --from digits --task digits --task mnist": ("one task and one pair", "--task out of"),
    "search dfad --from digits --set dfad.lr_s=fast": ("setting dfad.lr_s = 'fast' is not a number",),
    "search dfad --from digits --workers 0 --address auto": ("--address auto has no use",),
    "bench --methods kd --task digits": ("takes a GRID, or else", "no --pair"),
    "bench --methods kd --task digits --pair wrn16_2:wrn16_1 --device tpu": ("--device 'tpu'",),
    "status TINY --plan --workers -1": ("--workers -1: give 0",),
    "list nowhere.py": ("grid nowhere.py does not exist",),
    "list TINY --methods kkd": ("unknown row or method 'kkd'", "did you mean 'kd'"),
    "list TINY --seeds 1-x": ("--seeds '1-x'",),
    "list TINY --task digts": ("unknown task 'digts'", "did you mean 'digits'"),
    "list TINY --pair lenet5:wrn": ("unknown net 'wrn'",),
    "list TINY --budget 0": ("budget '0'",),
    "run TINY --retry all": ("unknown --retry 'all'", "failed"),
    "run TINY --workers -1": ("--workers -1",),
    "run TINY --workers 0 --no-mlflow --out TINY": ("tiny.py cannot be written: File exists",),
    "run TINY --tracking-uri ftp://x": ("tracking URI 'ftp://x'",),
    "results TINY --from mlflow": ("no MLflow database", "dfkd sync"),
    "report TINY --format pdf": ("unknown report format 'pdf'",),
    "report TINY --format ,": ("--format names no format",),
    "measure TINY --metrics top2": ("unknown metric 'top2'", "did you mean 'top1'"),
    "measure TINY --no-mlflow": ("nothing to measure",),
    "show zzz": ("begins with 'zzz'",),
    "methods nope": ("unknown method 'nope'",),
    "check nope": ("unknown method 'nope'",),
    "check": ("name one METHOD, or say --all",),
    "check kd --all": ("name one METHOD, or say --all",),
    "tasks --download nope": ("unknown task 'nope'",),
    "teachers train nope lenet5": ("unknown task 'nope'",),
    "teachers train digits nope": ("unknown net 'nope'",),
    "teachers train digits lenet5 --recipe nope": ("unknown teacher recipe 'nope'",),
    "teachers train digits lenet5 --device nope": ("--device 'nope'", "cuda"),
    "teachers import nowhere.pt digits lenet5": ("nowhere.pt",),
    "teachers verify": ("no teacher",),
    "teachers verify abc": ("0 teachers",),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line(dfkd, world, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    dfkd(*words.replace("TINY", str(world.grid)).split()).refuses(*MISTAKES[words])
    assert not list(tmp_path.iterdir()), "a command that was refused leaves nothing behind"


def test_a_word_that_no_option_takes_is_refused(dfkd, world):
    said = dfkd("list", world.grid, "--precision", "fp8")
    assert said.code == 2 and "fp8" in said.err and "bf16" in said.err


# --- listing and overriding ---------------------------------------------------------------------


def test_list_gives_the_grids_trials(dfkd, world):
    trials = expand.trials_of(load(world.grid))
    said = dfkd("list", world.grid, "--json").json
    assert [t["id"] for t in said] == [t.id for t in trials]
    assert {"label": "kd", "task": "digits", "teacher": "lenet5_bn", "seed": 0}.items() <= said[0].items()
    text = dfkd("list", world.grid).out
    assert all(t.id in text for t in trials) and "4 trials, 1 teacher\n" in text


def test_every_override_reaches_the_trials(dfkd, world):
    words = "--methods kd --seeds 3-5 --task digits16 --pair lenet5:lenet5_half --budget 9:student_updates"
    words += " --set kd.tau=1,2 --precision bf16 --compile"
    found = dfkd("list", world.grid, "--json", *words.split()).json
    assert [(t["label"], t["settings"]["tau"], t["seed"]) for t in found] == [
        (f"kd tau={tau}", float(tau), seed) for tau in "12" for seed in (3, 4, 5)
    ]
    same = {"task": "digits16", "teacher": "lenet5", "student": "lenet5_half", "precision": "bf16"}
    same |= {"compile": True, "budget": {"amount": 9.0, "unit": "student_updates"}}
    assert all(same.items() <= t.items() for t in found)


# --- running ------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_do_prints_the_table_and_touches_no_trial(dfkd, world, monkeypatch):
    for heavy in ("ray", "mlflow"):
        monkeypatch.setitem(sys.modules, heavy, None)  # an import of it fails from here on
    before = {p: p.stat().st_mtime_ns for p in (world.out / "trials").rglob("*") if p.is_file()}
    assert len(before) > 4
    said = dfkd("run", world.grid, "--out", world.out, "--no-mlflow")
    assert said.code == 0 and said.err == "4 done\n"
    assert before == {p: p.stat().st_mtime_ns for p in (world.out / "trials").rglob("*") if p.is_file()}
    assert "kd" in said.out and "dafl" in said.out and "top-1" in said.out
    page = Path(said.out.splitlines()[-1].removeprefix("report: "))
    assert page == world.out / "reports" / "tiny" / "report.html" and page.read_text().startswith("<!")


def test_a_trial_that_diverges_ends_in_status_1_and_is_tried_again_when_asked(dfkd, world, copied):
    chosen = ("--methods", "kd", "--seeds", "0", "--set", "kd.lr_s=1e38")
    words = ("run", world.grid, "--out", copied, "--workers", 0, "--no-mlflow", *chosen)
    said = dfkd(*words)
    assert said.code == 1 and "1 failed" in said.err and "not finite" in said.err
    assert "nan" not in said.out.lower(), "recorded with its reason, never a number"
    (trial,) = ids(dfkd, world, *chosen)
    shown = dfkd("show", trial, "--out", copied).out
    assert "\nmethod: " in shown and "not finite" in shown and "Traceback" in shown
    found = dfkd("status", world.grid, "--out", copied, "--json", *chosen).json
    assert found[0]["status"] == "failed" and "not finite" in found[0]["reason"]
    assert "[1/1]" not in dfkd(*words).err
    again = dfkd(*words, "--retry", "failed")
    assert again.code == 1 and "[1/1] failed" in again.err


@pytest.mark.parametrize(
    ("lists", "code"),
    [("done", 0), ("skipped", 0), ("failed", 1), ("open", 1), ("busy", 1), ("interrupted", 130)],
)
def test_exit_status_says_how_it_went(dfkd, world, monkeypatch, lists, code):
    trials = tuple(expand.trials_of(load(world.grid)))
    nothing: dict[str, Any] = dict.fromkeys(("done", "failed", "skipped", "busy", "open"), ())
    stopped = lists == "interrupted"
    nothing["open" if stopped else lists] = trials
    summary = Summary(**nothing, ran=0, seconds=0, interrupted=stopped)
    monkeypatch.setattr("harness.schedule.run.run_trials", lambda *args, **given: summary)
    monkeypatch.setattr("reports.report.Results.report", lambda self: {"html": Path("report.html")})
    assert dfkd("run", world.grid, "--out", world.out, "--no-mlflow").code == code


# --- looking ------------------------------------------------------------------------------------


def test_status_of_a_finished_and_of_a_missing_trial(dfkd, world):
    words = ("status", world.grid, "--out", world.out, "--seeds", "1-2")
    found = [(r["row"], r["seed"], r["status"], r["done"]) for r in dfkd(*words, "--json").json]
    each = [(1, "done", 100.0), (2, "missing", 0.0)]
    assert found == [(row, *stands) for row in ("kd", "dafl") for stands in each]
    assert "4 trials: 2 done, 2 missing" in dfkd(*words).out


def test_results_are_what_the_trials_wrote(dfkd, world):
    found = dfkd("results", world.grid, "--out", world.out, "--json").json
    for row in found:
        result = json.loads((world.out / "trials" / row["id"] / "result.json").read_text())
        assert row["top1"] == result["metrics"]["top1"] and row["stale"] == ""
        assert row["teacher_digest"] == result["provenance"]["teacher_digest"] and row["classes"] == 10
    assert [row["reference"] for row in found] == [True, True, False, False]
    assert found[0]["fd_teacher"] is None, "a reference makes no images"
    lines = dfkd("results", world.grid, "--out", world.out, "--csv").out.splitlines()
    names, first = lines[0].split(","), lines[1].split(",")
    assert len(lines) == 5 and names[0] == "id"
    assert float(first[names.index("top1")]) == found[0]["top1"]
    assert found[0]["id"] in dfkd("results", world.grid, "--out", world.out).out


def test_a_result_of_another_teacher_is_marked_stale(dfkd, world, copied):
    (card,) = (copied / "teachers").glob("*/*.json")
    card.write_text(json.dumps(json.loads(card.read_text()) | {"digest": "0" * 64}))
    found = dfkd("results", world.grid, "--out", copied, "--json").json
    assert all("teacher was" in row["stale"] and "00000000" in row["stale"] for row in found)


def test_report_writes_what_is_asked(dfkd, world, copied):
    shutil.rmtree(copied / "reports")
    said = dfkd("report", world.grid, "--out", copied, "--format", "md,csv")
    files = {"md": "report.md", "csv": "report.csv"} | {k: f"{k}.csv" for k in ("verdicts", "comparisons")}
    assert said.out.splitlines() == [f"{k}: {copied / 'reports' / 'tiny' / f}" for k, f in files.items()]
    assert not (copied / "reports" / "tiny" / "report.html").exists()


def test_show_takes_the_beginning_of_an_id(dfkd, world):
    trial = ids(dfkd, world, "--methods", "dafl")[0]
    shown = dfkd("show", trial[:9], "--out", world.out)
    assert shown.code == 0 and f"{trial}  dafl on digits" in shown.out and "▁" in shown.out
    assert all(
        word in shown.out for word in ("setting", "fd_teacher", "provenance", "student_updates", "G/oh")
    )
    found = dfkd("show", trial, "--out", world.out, "--json").json
    assert found["id"] == trial and found["status"] == "done" and len(found["curve"]) == 4
    assert found["result"]["metrics"]["top1"] == found["curve"][-1]["top1"]


def test_show_needs_one_trial(dfkd, world, copied):
    dfkd("show", "", "--out", world.out).refuses("no trial of the 4")
    trial = ids(dfkd, world)[0]
    shutil.copytree(copied / "trials" / trial, copied / "trials" / f"{trial}x")
    dfkd("show", trial, "--out", copied).refuses("2 trials have an id that begins with", trial)
    dfkd("show", f"{trial}x", "--out", copied).refuses("damaged or moved")
    (copied / "trials" / f"{trial}x" / "trial.json").write_text("{")
    dfkd("show", f"{trial}x", "--out", copied).refuses("cannot be read")


# --- measuring again ----------------------------------------------------------------------------


def test_measure_gives_back_what_was_there_and_keeps_what_it_cannot_take_again(dfkd, world, copied):
    file = result_of(dfkd, world, copied)
    before = json.loads(file.read_text())
    column = next(k for k in before["unavailable"] if k.startswith("fid_"))
    less = {k: v for k, v in before["metrics"].items() if k not in ("fd_teacher", "spread", "agreement")}
    file.write_text(json.dumps(before | {"metrics": less | {column: 12.5}}))
    words = (*ONE, "--out", copied, "--no-mlflow")
    said = dfkd("measure", world.grid, "--metrics", "fd_teacher,spread,agreement,fid", *words)
    assert said.code == 0 and "1 of 1 trials measured" in said.out
    assert f"no {column}: no Inception weights" in said.err
    before["metrics"][column] = 12.5
    del before["unavailable"][column]
    assert json.loads(file.read_text()) == before, "to the last bit: the same student, the same noise"


def test_fid_from_the_command_to_the_report(dfkd, world, copied, known, monkeypatch):
    """Without weights every cell says why; with them it is pytorch-fid's distance of its features."""
    import numpy as np
    import scipy.linalg
    import torch
    from pytorch_fid import fid_score, inception

    from harness.metrics import fid
    from harness.trials import examine, measure

    monkeypatch.setattr("reports.page.page.draw", lambda *frames: ())  # numbers alone are asked for here

    def told() -> str:
        assert dfkd("report", world.grid, "--out", copied, "--format", "md").code == 0
        return (copied / "reports" / "tiny" / "report.md").read_text("utf-8")

    (fact,) = [line for line in told().splitlines() if "FID (n=" in line]
    assert f"not available: no Inception weights: download {fid.URL} and give it" in fact
    monkeypatch.setattr(fid, "MOST", 3)  # a picture takes a good part of a second
    seen = []
    taken = examine.evidence
    monkeypatch.setattr(measure, "evidence", lambda *a: seen.append(taken(*a)) or seen[-1])
    words = (*ONE, "--out", copied, "--no-mlflow", "--inception-weights", known)
    said = dfkd("measure", world.grid, "--metrics", "fid,kid", *words)
    assert said.code == 0, said.err
    found = json.loads(result_of(dfkd, world, copied).read_text())["metrics"]
    assert f"fid_3_test {found['fid_3_test']:.5g}; kid_3_test " in said.err
    after = told()
    assert f"| {found['fid_3_test']:,.2f} (n=1) |" in after
    # a reference was never asked for three: it says what it said of all
    heads, kd = (next(line for line in after.splitlines() if part in line) for part in ("| method |", "| kd"))
    column = heads.split(" | ").index("FID (n=3, test)")
    assert kd.split(" | ")[column].endswith(r"\[1\]")
    assert r"- \[1\] trained on real data: no synthetic images" in after

    # theirs, on the very images
    (ev,) = seen
    monkeypatch.setenv("TORCH_HOME", str(known.parents[2]))
    theirs = inception.InceptionV3([3]).eval()
    sides = [ev.samples["images"][:3], ev.test[ev.test_rows(3)]]
    with torch.no_grad():
        grey = [torch.from_numpy(x).float().div(255).expand(-1, 3, -1, -1) for x in sides]
        a, b = (theirs(x)[0].flatten(1).double().numpy() for x in grey)
    q = np.linalg.qr(np.concatenate([a, b]).T)[0]  # in their span: distances stay
    sqrtm = scipy.linalg.sqrtm
    monkeypatch.setattr(fid_score.linalg, "sqrtm", lambda m, disp=True: (sqrtm(m), 0.0))
    moments = [m for x in (a @ q, b @ q) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert found["fid_3_test"] == pytest.approx(fid_score.calculate_frechet_distance(*moments), rel=1e-4)


def test_measure_refuses_another_teacher_damaged_files_and_another_student(dfkd, world, copied):
    folders = [copied / "trials" / id for id in ids(dfkd, world)]
    found = [json.loads((folder / "result.json").read_text()) for folder in folders]
    found[0]["provenance"]["teacher_digest"] = "0" * 64
    found[2]["metrics"]["top1"] += 5.0
    for folder, result in zip(folders, found, strict=True):
        (folder / "result.json").write_text(json.dumps(result))
    (folders[1] / "final" / "student.safetensors").write_bytes(b"x")
    said = dfkd("measure", world.grid, "--metrics", "top1", "--out", copied, "--no-mlflow")
    assert said.code == 1 and "1 of 4 trials measured" in said.out
    lines = said.err.splitlines()
    assert "teacher was 000000000000" in lines[0] and "cannot be read" in lines[1]
    assert "damaged files" in lines[2] and "top1" in lines[3]
    assert json.loads((folders[2] / "result.json").read_text()) == found[2]


# --- what there is ------------------------------------------------------------------------------


def test_nets_have_the_published_sizes(dfkd):
    """At K = 10 and 3 x 32 x 32, counted by the fields' own papers and repositories."""
    found = {n["name"]: n for n in dfkd("nets", "--json").json}
    sizes = {"resnet18": (11_173_962, 512), "resnet34": (21_282_122, 512), "wrn16_1": (175_066, 64)}
    sizes |= {"wrn16_2": (691_674, 128), "wrn40_1": (563_930, 64), "wrn40_2": (2_243_546, 128)}
    assert {k: (found[k]["params"], found[k]["width"]) for k in sizes} == sizes
    assert "11,173,962" in dfkd("nets").out


def test_tasks_and_metrics(dfkd):
    found = {t["name"]: t for t in dfkd("tasks", "--json").json}
    task = found["cifar100"]
    assert (task["K"], task["side"], task["augment"]) == (100, 32, ["flip", "pad"])
    assert "folder:/path" in dfkd("tasks").out
    said = dfkd("tasks", "--download", "digits")
    assert said.code == 0 and "training and" in said.out
    metrics = {m["metric"]: m for m in dfkd("metrics", "--json").json}
    assert metrics["top1"]["better"] == "higher" and metrics["fid"]["better"] == "lower"
    asked = {name for name, m in metrics.items() if m["taken"] == "when asked for"}
    assert asked == {"corruption", "shift"} and metrics["fid"]["taken"] == "always"
    out = dfkd("metrics").out
    assert "fd_teacher" in out and "dfkd measure GRID --metrics corruption,shift" in out


@pytest.fixture
def uncounted(monkeypatch, tmp_path) -> None:
    """Counting the passes of every method takes long, and is remembered."""
    monkeypatch.setenv("DFKD_CACHE", str(tmp_path))
    monkeypatch.setattr("harness.trials.costs.passes", lambda name: {})


def test_methods_and_their_settings(dfkd, uncounted):
    found = {m["name"]: m for m in dfkd("methods", "--json").json}
    assert found["kd"]["reference"] and not found["cpsc"]["reference"]
    assert found["kd"]["settings"]["tau"]["default"] == 4.0
    assert found["cpsc"]["settings"]["beta"]["term"] == "bn"
    assert "released" in found["cpsc"]["presets"]["fidelity"]
    assert found["noise"]["control"] and not found["cpsc"]["control"]
    assert all(not m["error"] for m in found.values())
    told = dfkd("methods", "kd").out
    assert "temperature" in told and "L_S = w_kd tau^2 KL(t/tau || s/tau) + w_ce CE(s, y)" in told
    told = dfkd("methods", "zskt").out
    assert "Departures, each a setting:" in told and "rival=teacher:" in told and "Seen:" not in told
    assert "arXiv 1912.11006" in dfkd("methods").out


def test_a_method_tells_its_passes(dfkd):
    """Forwards of the reference's cost table for 6 steps of G to 5 of S."""
    (cpsc,) = dfkd("methods", "cpsc", "--json").json
    assert cpsc["passes"]["G"]["forward"] == pytest.approx(2.2)


def plugged(monkeypatch, name: str, where: str) -> None:
    point = EntryPoint(name, where, registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    monkeypatch.setattr(registry, "methods", registry.Methods())


def test_a_broken_plug_in_is_listed_with_its_error(dfkd, uncounted, monkeypatch):
    plugged(monkeypatch, "broken", "no_such_package.method")
    found = {m["name"]: m for m in dfkd("methods", "--json").json}
    assert "no_such_package" in found["broken"]["error"] and not found["kd"]["error"]
    assert "no_such_package" in dfkd("methods").out
    dfkd("check", "broken").refuses("plug-in 'broken' cannot be loaded")
    monkeypatch.setattr("harness.trials.check.check", lambda name: [])
    said = dfkd("check", "--all", "--json")
    assert said.code == 1 and [(r["method"], r["check"]) for r in said.json] == [("broken", "import")]


def test_a_plug_in_tells_its_equation_too(dfkd, uncounted, monkeypatch):
    module = ModuleType("their_method", "Theirs.\n\n    L_S = |s - t|\n\nSeen: nothing yet.")
    module.Theirs = type("Theirs", (registry.methods.get("kd"),), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plugged(monkeypatch, "theirs", module.__name__)
    told = dfkd("methods", "theirs").out
    assert told.startswith("Theirs.\n\n    L_S = |s - t|\n\n") and "Seen" not in told and "w_kd" in told


def test_check_says_which_rule_is_broken(dfkd, monkeypatch):
    verdicts = [Verdict("kd", "roles", "", 0.1), Verdict("kd", "cost", "counted 1 flops", 0.2)]
    monkeypatch.setattr("harness.trials.check.check", lambda name: verdicts)
    said = dfkd("check", "kd")
    assert said.code == 1 and "counted 1 flops" in said.out and "1 of 2 checks passed" in said.out
    monkeypatch.setattr("harness.trials.check.check", lambda name: verdicts[:1])
    assert dfkd("check", "kd").code == 0


# --- teachers -----------------------------------------------------------------------------------


def test_teachers_are_trained_listed_and_verified(dfkd, tmp_path):
    words = ("--out", tmp_path)
    card = dfkd("teachers", "train", "digits", "lenet5_half", "--threads", 1, *words, "--json").json
    assert card["net"] == "lenet5_half" and card["source"] == "trained"
    assert dfkd("teachers", "list", *words, "--json").json == [card]
    assert card["digest"][:12] in dfkd("teachers", "list", *words).out
    assert dfkd("teachers", "train", "digits", "lenet5_half", *words, "--json").json == card, "it was there"
    said = dfkd("teachers", "verify", card["digest"][:6], *words, "--json")
    assert said.code == 0 and said.json[0]["measured"] == card["top1"]
    (file,) = tmp_path.rglob("*.safetensors")
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    said = dfkd("teachers", "verify", *words, "--json")
    assert said.code == 1 and "changed or damaged" in said.json[0]["error"]


def test_a_students_file_comes_in_as_a_teacher(dfkd, world, tmp_path):
    import torch
    from safetensors.torch import load_file

    (file,) = (world.out / "teachers").rglob("*.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in load_file(file).items()}}, tmp_path / "t.pth")
    words = ("--out", tmp_path, "--json")
    own = dfkd("teachers", "list", "--out", world.out, "--json").json[0]
    card = dfkd("teachers", "import", tmp_path / "t.pth", "digits", "lenet5_bn", *words).json
    assert card["source"] == "imported" and card["top1"] == own["top1"] and card["recipe"] is None


def test_no_teacher_is_no_error_for_a_listing(dfkd, tmp_path):
    assert dfkd("teachers", "list", "--out", tmp_path, "--json").json == []
    assert "no teacher" in dfkd("teachers", "list", "--out", tmp_path).err


# --- MLflow -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sync_makes_mlflow_say_what_the_directories_say(dfkd, world, copied):
    assert "4 runs created" in dfkd("sync", world.grid, "--out", copied).out
    assert "4 unchanged" in dfkd("sync", world.grid, "--out", copied).out
    store = dfkd("results", world.grid, "--out", copied, "--csv").out
    assert dfkd("results", world.grid, "--out", copied, "--csv", "--from", "mlflow").out == store
    pages = []
    for origin in ("store", "mlflow"):
        dfkd("report", world.grid, "--out", copied, "--from", origin)
        pages.append((copied / "reports" / "tiny" / "report.html").read_bytes())
    assert pages[0] == pages[1]


# --- printing and completing --------------------------------------------------------------------


def test_json_has_no_nan(capsys):
    printing.dump({"a": float("nan"), "b": [float("inf"), 1.5, None, True], "c": {2, 1}, "d": Path("x")})
    said = json.loads(capsys.readouterr().out)
    assert said == {"a": None, "b": [None, 1.5, None, True], "c": [1, 2], "d": "x"}


def test_sparkline():
    assert printing.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert printing.sparkline([5, 5]) == "▁▁" and printing.sparkline([]) == ""
    long = printing.sparkline(range(1000), width=10)
    assert len(long) == 10 and long[0] == "▁" and long[-1] == "█"
    assert printing.sparkline([float("nan"), 1, 2]) == "▁█"


def test_a_pipe_gets_whole_lines(capsys):
    printing.table([{"name": "x" * 300, "value": 0.123456789}])
    assert "x" * 300 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dfkd check cp", "cpsc"),
        ("dfkd teachers train digi", "digits16"),
        ("dfkd teachers train digits wrn40", "wrn40_2"),
        ("dfkd list paper_p", "paper_pairs"),
        ("dfkd list digits --methods kd,c", "kd,cpsc"),
        ("dfkd list digits --pair w", "wrn16_2:"),
        ("dfkd list digits --pair wrn16_2:wr", "wrn16_2:wrn16_1"),
    ],
)
def test_the_shell_completes_names(dfkd, monkeypatch, line, wanted):
    monkeypatch.setenv("_DFKD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert wanted in dfkd().out.split()
