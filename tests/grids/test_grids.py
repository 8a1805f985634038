"""Grid files and the overrides of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from types import SimpleNamespace

import pytest

from harness import registry
from harness.config import Budget, Grid
from harness.grids import expand, load, override, remember
from tests.build import refused


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DFKD_CACHE", str(tmp_path / "cache"))


def grid(**more: object) -> Grid:
    fields: dict[str, object] = {
        "tasks": ("digits",),
        "pairs": (("wrn16_2", "wrn16_1"),),
        "variants": {"kd": ("kd", {}), "cpsc": ("cpsc", {}), "cpsc - bn": ("cpsc", {"beta": 0})},
        "settings": {"*": {"batch": 32}, "cpsc": {"alpha": 2.0}},
        "seeds": (0, 1),
        "budget": Budget(amount=10),
        "budgets": {"cpsc": Budget(amount=20)},
    }
    return Grid(**(fields | more))


def picked(found: Grid, *methods: str) -> Grid:
    return override.override(found, methods=methods)


def set_on(found: Grid, *words: str) -> Grid:
    return override.override(found, sets=[override.parse_set(each) for each in words])


# --- loading ------------------------------------------------------------------------------------


def test_a_grid_is_named_after_its_file_and_found_by_bare_name(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from harness.config import Budget, Grid\n"
        "GRID = Grid(name='other', tasks=('digits',), pairs=(('a', 'b'),), budget=Budget(amount=3))\n"
    )
    assert load.load(file).name == "mine"
    assert load.load("ablation_cfe") == load.load(load.find("ablation_cfe"))
    assert load.load("ablation_cfe").tasks == ("cifar100",)
    assert {"paper_main", "ablation_cfe"} <= set(load.known())


IMPORT = "from harness.config import *\n"
BROKEN = {
    "GRID = Grid(": ("line 1", "never closed"),
    "\n\nx = = 1": ("line 3", "invalid syntax"),
    "x = 1": ("defines no GRID",),
    "GRID = {'tasks': 1}": ("GRID is a dict", "harness.config.Grid"),
    "\nimport no_such_module\n": ("line 2", "ModuleNotFoundError"),
    "\ndef f():\n    return 1 / 0\nGRID = f()": ("line 3", "ZeroDivisionError"),
    IMPORT + "GRID = Grid(tasks=(), pairs=(('a', 'b'),), budget=Budget(amount=1))": ("tasks",),
    IMPORT + "GRID = Grid(tasks=('digits',), pairs=(('a', 'b'),), budget=Budget(amount=-1))": (
        "amount = -1",
        "greater than 0",
    ),
    "\xff\xfe\x00\x01": (),  # no text
    "x = 1\x00": (),
    IMPORT + "GRID = Grid(task=('digits',), pairs=(('a','b'),), budget=Budget(amount=1))": ("task",),
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_grid_file_is_one_line_that_names_the_file(tmp_path, text):
    file = tmp_path / "broken.py"
    file.write_bytes(text.encode("latin-1"))
    refused(lambda: load.load(file), str(file), *BROKEN[text])


def test_a_grid_that_is_not_there_says_which_are(tmp_path):
    refused(lambda: load.load(tmp_path / "none.py"), "does not exist; in benchmarks/: ", "ablation_cfe")
    refused(lambda: load.load("papermain"), "did you mean 'paper_main'")
    refused(lambda: load.load("__init__"), "unknown grid '__init__'")
    (tmp_path / "folder.py").mkdir()
    refused(lambda: load.load(tmp_path / "folder.py"), "is a folder")


# --- overrides ----------------------------------------------------------------------------------


def test_nothing_given_changes_nothing():
    assert override.override(grid()) == grid()
    assert override.override(grid(variants="all")).variants == "all"
    assert override.override(grid(compile=True), compile=False).compile is False, "False is something"


def test_methods_pick_rows_by_label_or_method_and_add_new_ones():
    assert list(expand.rows_of(picked(grid(), "cpsc"))) == ["cpsc"], "a label means that row alone"
    no_label = grid(variants={"a": ("cpsc", {}), "b": ("cpsc", {"beta": 0}), "kd": ("kd", {})}, budgets={})
    assert list(expand.rows_of(picked(no_label, "cpsc"))) == ["a", "b"]
    added = picked(grid(), "dafl", "kd")
    assert expand.rows_of(added) == {"dafl": ("dafl", {}), "kd": ("kd", {})}
    assert {t.settings["batch"] for t in expand.trials_of(added)} == {32}, "a new row gets what '*' sets"
    assert added.budgets == {}, "a budget of a row that is gone would be an error"
    missing = "unknown row or method 'cpsd'; did you mean 'cpsc'"
    refused(lambda: picked(grid(), "cpsd"), missing)


def test_a_contrast_goes_with_its_rows():
    both = grid(contrasts={"cpsc - bn": "cpsc"})
    assert override.override(both, seeds=[1]).contrasts == {"cpsc - bn": "cpsc"}
    assert picked(both, "cpsc", "cpsc - bn").contrasts == {"cpsc - bn": "cpsc"}
    for found in (picked(both, "cpsc", "kd"), set_on(both, "cpsc.beta=0,1")):
        assert found.contrasts == {} and expand.trials_of(found), "a row that is gone or renamed"


def test_methods_of_a_grid_of_all_need_no_import_of_the_others(monkeypatch):
    monkeypatch.setattr(registry.methods, "available", lambda: pytest.fail("imports every method"))
    assert expand.rows_of(picked(grid(variants="all", budgets={}), "kd")) == {"kd": ("kd", {})}


def test_set_makes_a_row_of_each_value():
    found = set_on(grid(), "cpsc.beta=0,1")
    assert expand.rows_of(found) == {
        "kd": ("kd", {}),
        "cpsc beta=0": ("cpsc", {"beta": "0"}),
        "cpsc beta=1": ("cpsc", {"beta": "1"}),
        "cpsc - bn": ("cpsc", {"beta": 0}),
    }
    assert {k: v.amount for k, v in found.budgets.items()} == {"cpsc beta=0": 20, "cpsc beta=1": 20}
    by_label = {t.label: t for t in expand.trials_of(found) if t.seed == 0}
    assert by_label["cpsc beta=0"].settings["beta"] == 0.0
    assert by_label["cpsc beta=0"].settings["alpha"] == 2.0, "what the grid sets for the method"
    twin = by_label["cpsc - bn"].model_copy(update={"budget": Budget(amount=20)})
    assert by_label["cpsc beta=0"].id == twin.id, "the same trial under another label"


def test_several_sets_multiply_and_the_closest_name_wins():
    found = set_on(grid(), "cpsc.beta=0,1", "cpsc.gamma=0,2")
    made = [label for label in expand.rows_of(found) if label.startswith("cpsc beta")]
    assert made == [f"cpsc beta={b} gamma={g}" for b in "01" for g in "02"]
    found = set_on(grid(), "kd.batch=8", "*.batch=16")
    assert {label: row[1]["batch"] for label, row in expand.rows_of(found).items()} == {
        "kd batch=8": "8",
        "cpsc batch=16": "16",
        "cpsc - bn batch=16": "16",
    }
    by_method = grid(variants={"a": ("cpsc", {}), "b": ("cpsc", {})}, budgets={})
    assert list(expand.rows_of(set_on(by_method, "cpsc.beta=3"))) == ["a beta=3", "b beta=3"]
    star = list(expand.rows_of(set_on(grid(), "*.tau=2")))
    assert star == ["kd tau=2", "cpsc", "cpsc - bn"], "it reaches the rows that have the setting"


def test_a_set_that_hits_nothing_is_an_error():
    for words, told in (
        ("*.tua=2", "unknown setting of any row 'tua'; did you mean 'tau'"),
        ("dfad.batch=2", "unknown row or method in --set 'dfad'"),
        ("cpsc.betta=2", "unknown setting of cpsc 'betta'; did you mean 'beta'"),
        ("cpsc.beta=x", "setting cpsc.beta = 'x' is not a number"),
    ):
        refused(lambda words=words: expand.trials_of(set_on(grid(), words)), told)


# --- words of the command line ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0,1,2", [0, 1, 2]), ("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("5,0-1, 5", [5, 0, 1]), ("2-2", [2])],
)
def test_seeds(text, seeds):
    assert override.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1-x", "0.5", ",", "4-2"])
def test_seeds_that_are_none(text):
    refused(lambda: override.parse_seeds(text), "--seeds")


def test_teachers_of_other_seeds():
    found = override.override(grid(), teacher_seeds=[1, 2])
    assert {t.teacher_seed for t in expand.trials_of(grid())} == {0}
    assert {t.teacher_seed for t in expand.trials_of(found)} == {1, 2}
    assert len(expand.trials_of(found)) == 2 * len(expand.trials_of(grid()))
    wrong = "--teacher-seeds 'x' is not a list like 0,1,2"
    refused(lambda: override.parse_seeds("x", "--teacher-seeds"), wrong)


def test_sets_and_pairs():
    assert override.parse_set("cpsc 0.5.beta = 0, 1") == ("cpsc 0.5", "beta", ("0", "1"))
    assert override.parse_pair("wrn16_2:wrn16_1") == ("wrn16_2", "wrn16_1")
    for text in ("cpsc", "cpsc.beta", "cpsc=1", ".beta=1", "cpsc.=1", "cpsc.beta="):
        refused(lambda text=text: override.parse_set(text), "--set")
    for text in ("a", "a:", ":b", "a:b:c"):
        refused(lambda text=text: override.parse_pair(text), "--pair")


# --- remembering --------------------------------------------------------------------------------


def test_trials_are_the_grids_own_with_and_without_the_cache(tmp_path):
    first, again = expand.remembered(grid()), expand.remembered(grid())
    assert first == again == expand.trials_of(grid())
    assert [t.id for t in again] == [t.id for t in expand.trials_of(grid())]
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1


def test_a_listing_loads_torch_and_nothing_heavier_and_the_second_time_not_even_that():
    """That is most of what a listing takes; asked by what is loaded, as a clock tells of other load."""
    code = (
        "import sys; from harness.cli.main import main\n"
        "try: main(['list', 'benchmarks/paper_main.py', '--json'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torch._dynamo', 'torchvision', 'scipy', 'sklearn', 'pandas', 'matplotlib',\n"
        "         'ray', 'mlflow'}\n"
        "print(*sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert (first.stderr.split(), second.stderr.split()) == (["torch"], [])
    assert len(json.loads(first.stdout)) > 0 and first.stdout == second.stdout


def test_answers_are_kept_until_code_changes_and_never_beside_plug_ins(tmp_path, monkeypatch):
    numbers = count(1)

    def answer() -> list[int]:
        return [next(numbers)]

    code = ["a"]
    monkeypatch.setattr(remember, "_code", lambda: code[0])
    assert [remember.by_code("q", answer) for _ in range(2)] == [[1], [1]]
    assert remember.by_code("another question", answer) == [2]
    code[0] = "b"
    assert remember.by_code("q", answer) == [3]
    monkeypatch.setattr(remember, "entry_points", lambda group: ["a plug-in"])
    assert [remember.by_code("q", answer) for _ in range(2)] == [[4], [5]]
    monkeypatch.setattr(remember, "entry_points", lambda group: [])
    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text('{"code": "b"')
    assert remember.by_code("q", answer) == [6], "a damaged file is no answer"
    monkeypatch.setenv("DFKD_CACHE", "/dev/null/nowhere")
    told = [remember.by_code("q", answer) for _ in range(2)]
    assert told == [[7], [8]], "an unwritable cache costs time only"


def test_the_code_stamp_follows_the_sources(tmp_path, monkeypatch):
    spec = SimpleNamespace(submodule_search_locations=(str(tmp_path),))
    monkeypatch.setattr(remember, "find_spec", lambda name: spec)
    stamps = []
    for name, text in (("a", "a = 1"), ("a", "a = 2"), ("a", "a = 2"), ("more", "")):
        (tmp_path / f"{name}.py").write_text(text)
        remember._code.cache_clear()
        stamps.append(remember._code())
    remember._code.cache_clear()
    assert stamps[0] != stamps[1] == stamps[2] != stamps[3]
