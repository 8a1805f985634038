"""Ablations from metadata: which rows, against which, which not and why; and grids written back as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import files, registry
from harness.compute import Meter
from harness.config import Budget, Grid, On, Task
from harness.errors import DfkdError
from harness.grids import expand, load, override, write
from harness.grids.ablate import Ablation, ablation
from harness.grids.start import begin
from harness.interface import Method, Problem, Terms
from harness.network import NetSpec
from harness.settings import choice, log, setting, weight
from harness.trials import toy
from tests import build

PLACE: dict[str, Any] = {"tasks": ["digits"], "pairs": [("wrn16_2", "wrn16_1")], "budget": Budget(amount=9)}


pytestmark = pytest.mark.xdist_group("ablate")  # what is tried once serves all tests


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of plug-ins, as the fakes are, nothing is remembered: their settings are tried once here, too."""
    tried: dict[str, Any] = {}

    def once(real: Any) -> Any:
        def found(*asked: Any) -> Any:
            if (key := f"{real.__name__} {asked}") not in tried:
                with pytest.MonkeyPatch.context() as quick:  # which terms there are, not what they cost
                    quick.setattr(Meter, "watch", lambda *_: None)
                    answer = real(*asked)
                    tried[key] = answer if isinstance(answer, dict) else list(answer)
            return tried[key]

        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFKD_CACHE", str(tmp_path_factory.mktemp("cache")))
        for asks in (toy.loss_of, toy.obstacles):
            patch.setattr(f"harness.grids.ablate.{asks.__name__}", once(asks))
        yield


@dataclass(frozen=True)
class Settings:
    """G needs ``b``, S needs ``a``; ``idle`` is a weight of nothing."""

    version: str = setting("new", "preset", choices=("new", "old", "same"))
    a: float = weight(1.0, "of S", term="kd")
    b: float = weight(2.0, "of G", term="bn")
    idle: float = weight(1.0, "forgotten", term="idle")
    more: float = weight(0.5, "of S, too", term="more", off=1.0)
    never: float = weight(0.0, "off as it comes", term="never")
    mode: str = setting("x", "how", choices=("x", "y", "broken", "elsewhere"))
    loud: bool = setting(False, "whether")
    depth: int = setting(2, "how deep", space=choice(1, 2, 4))
    rate: float = setting(0.1, "of S", space=log(0.01, 1))


class Fake(Method):
    """A linear generator and a student, each with losses that can be taken away."""

    HP = Settings
    TITLE, PAPER = "fake", "none"
    PRESETS = {"version": {"old": {"more": 1.0}, "same": {}}}  # noqa: RUF012
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        super().__init__(problem, hp)
        if hp.mode == "broken":
            raise DfkdError("fake.mode = 'broken' does not go with anything")
        self.parts["G"] = nn.Linear(2, 64)
        self.opts = {
            k: torch.optim.SGD(m.parameters(), 0.1) for k, m in (("G", self.parts["G"]), ("S", self.S))
        }

    @classmethod
    def skip(cls, hp: Settings, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        return "elsewhere is not here" if hp.mode == "elsewhere" else None

    def _x(self) -> Tensor:
        return self.parts["G"](torch.randn(4, 2, generator=self.problem.rng)).view(4, 1, 8, 8)

    def synthesize(self) -> Terms:
        return self.step("G", {"bn": self.hp.b * self._x().square().mean()} if self.hp.b else {})

    def distill(self) -> Terms:
        hp, s = self.hp, self.S(self._x().detach())
        terms = {"kd": hp.a * s.square().mean()} if hp.a else {}
        return self.step("S", terms | ({"more": s.abs().mean()} if hp.more != 1.0 and hp.a else {}))

    def sample(self, n: int, labels: Tensor | None, rng: torch.Generator) -> None:
        return None


@dataclass(frozen=True)
class PickySettings(Settings):
    """Small batches and few steps are not for everybody."""

    s_steps: int = setting(3, "steps", low=3)
    batch: int = setting(16, "images", low=8)


class Picky(Fake):
    """As `Fake`, refusing what a toy problem would like it to have."""

    HP = PickySettings


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint(n.lower(), f"tests.grids.test_ablate:{n}", registry.GROUP) for n in ("Fake", "Picky")]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    monkeypatch.setattr(registry, "methods", registry.Methods())


def changes(found: Ablation) -> dict[str, dict[str, Any]]:
    return {row.label: row.changes for row in found.rows}


# --- a method made for it -----------------------------------------------------------------------


STRUCTURE = ("mode=y", "loud=true", "depth=1", "depth=4", "version=old")


def test_both_ablations_of_a_method_from_its_metadata_alone(fakes: None) -> None:
    found = ablation(begin("fake", **PLACE))
    assert changes(found) == {
        "full": {},
        "- more": {"more": 1.0},  # its off is no zero
        "bare": {"idle": 0.0, "more": 1.0},  # G needs one term, S another
        "bare + more": {"idle": 0.0},
        "mode=y": {"mode": "y"},
        "loud=true": {"loud": True},
        "depth=1": {"depth": 1},
        "depth=4": {"depth": 4},
        "version=old": {"version": "old"},
    }
    assert found.grid.contrasts == {
        **dict.fromkeys(["- more", "bare", *STRUCTURE], "full"),
        "bare + more": "bare",
    }
    assert found.left_out == {
        "- kd": "'S' has nothing to minimise: every weight of its terms is off",
        "- bn": "'G' has nothing to minimise: every weight of its terms is off",
        "- idle": "its loss has the terms it has otherwise: G/bn, S/kd, S/more",
        "bare + idle": "its loss has the terms it has otherwise: G/bn, S/kd",
        "- never": "never = 0 in full: it is off already",
        "version=same": "changes no other setting: it is full",
        "mode=broken": "fake.mode = 'broken' does not go with anything",
        "mode=elsewhere": "elsewhere is not here",
    }
    # the preset is worth what it changes
    assert {row.label: row.same for row in found.rows if row.same} == {"version=old": "- more"}


def test_a_method_that_cannot_be_made_small_is_tried_as_it_is(fakes: None) -> None:
    found, same = (ablation(begin(name, **PLACE), over=["more"]) for name in ("picky", "fake"))
    assert changes(found) == changes(same) and found.left_out == same.left_out


def test_what_is_varied_can_be_chosen(fakes: None) -> None:
    start = begin("fake", **PLACE)
    assert list(changes(ablation(start, over=["more"]))) == ["full", "- more", "bare", "bare + more"]
    chosen = ["full", "loud=true", "depth=1", "depth=4"]
    assert list(changes(ablation(start, over=["loud", "depth"]))) == chosen
    assert set(changes(ablation(start, only="structure"))) == {"full", *STRUCTURE}
    kept = ablation(start, only="losses", keep=["more", "a", "b"])
    assert "- more" in changes(kept) and "bare + more" not in changes(kept)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"over": ["moer"]}, "unknown setting of fake 'moer'; did you mean 'more'?"),
        (
            {"over": ["rate"]},
            "--over rate: fake.rate is no loss weight and has no choices to go through; `dfkd s",
        ),
        ({"keep": ["mode"]}, "unknown loss weight of fake in --base 'mode'"),
        ({"keep": ["never"]}, "--base never: fake.never is off in full"),
        ({"keep": ["a"]}, "--base a cannot run: 'G' has nothing to minimise"),
        ({"over": ["never"]}, "fake has nothing to ablate: - never: never = 0 in full: it is off already"),
        ({"set": "mode=broken"}, "fake mode=broken itself cannot run: fake.mode = 'broken' does not go with"),
        ({"set": "mode=elsewhere"}, "fake mode=elsewhere itself cannot run: elsewhere is not here"),
        ({"set": "b=0"}, "fake b=0 itself cannot run: 'G' has nothing to minimise"),
    ],
)
def test_what_cannot_be_varied_is_a_line(fakes: None, more: dict[str, Any], told: str) -> None:
    sets = [override.parse_set(f"fake.{more.pop('set')}")] if "set" in more else []
    build.refused(lambda: ablation(begin("fake", **PLACE, sets=sets), **more), told)


# --- ours ---------------------------------------------------------------------------------------


def test_the_loss_terms_of_cpsc() -> None:
    found = ablation(begin("cpsc", "digits"), only="losses")
    weights = {"l2": "alpha", "bn": "beta", "scl": "gamma", "ce": "eta"}
    bare = dict.fromkeys(weights.values(), 0.0)
    assert changes(found) == {
        "full": {},
        "- ikd": {"ikd": 0.0},
        **{f"- {term}": {name: 0.0} for term, name in weights.items()},
        "bare": bare,
        **{f"bare + {term}": {k: v for k, v in bare.items() if k != name} for term, name in weights.items()},
    }
    # as the grid written by hand has them
    by_hand = load.load("ablation_losses")
    assert found.grid.contrasts == by_hand.contrasts
    assert {label: own for label, (_, own) in expand.rows_of(by_hand).items()} == changes(found)


def test_of_two_terms_a_row_may_be_another_row_too() -> None:
    found = ablation(begin("kd", "digits"), only="losses")
    assert [(row.label, row.against, row.same) for row in found.rows] == [
        ("full", "", ""),
        ("- kd", "full", ""),
        ("- ce", "full", ""),
        ("bare", "full", "- ce"),
        ("bare + ce", "bare", "full"),
    ]
    trials = expand.remembered(found.grid)
    assert (len(trials), len({t.id for t in trials})) == (5, 3)


def test_a_method_without_weights_says_so() -> None:
    found = ablation(begin("dfad", "digits"), over=["rival"])
    assert found.left_out["loss terms"].startswith("no weight of its loss is on")
    assert "rival=teacher" in changes(found)
    nothing = "scratch has nothing to ablate: loss terms: no weight"
    build.refused(lambda: ablation(begin("scratch", "digits")), nothing)


@pytest.mark.slow
@pytest.mark.parametrize("name", [m for m in registry.methods.available() if m != "scratch"])
def test_every_method_has_ablations_whose_trials_resolve(name: str) -> None:
    found = ablation(begin(name, "digits"))
    full = next(t for t in expand.remembered(found.grid) if t.label == "full")
    same = {row.label for row in found.rows if row.same == "full"} | {"full"}
    for trial in expand.remembered(found.grid):
        assert trial.budget == full.budget and (trial.label in same) == (trial.settings == full.settings)


# --- where it starts ----------------------------------------------------------------------------


def grid_file(folder: Path, **more: Any) -> str:
    fields: dict[str, Any] = {
        "tasks": ("digits", "mnist"), "pairs": (("wrn16_2", "wrn16_1"),), "seeds": (0, 1),
        "variants": {"kd": ("kd", {}), "warm": ("kd", {"tau": 2.0}), "warmer": ("kd", {"tau": 8.0}),
                     "dafl it is": ("dafl", {"ie": 3.0})},
        "settings": {"*": {"batch": 16}, "kd": {"w_ce": 0.2}, "dafl": {"nz": 10}},
        "on": {"mnist": On(settings={"kd": {"w_ce": 0.3}, "dafl": {"nz": 20}}, budget=Budget(amount=7))},
        "budget": Budget(amount=50), "budgets": {"warm": Budget(amount=60)}, "row_seeds": {"warm": (5,)},
    }  # fmt: skip
    file = folder / "mine.py"
    file.write_text(write.source(Grid(**(fields | more)), "mine"))
    return str(file)


def test_it_starts_from_a_row_of_a_grid_with_all_that_the_grid_says_of_it(tmp_path: Path) -> None:
    found = ablation(begin("warm", grid_file(tmp_path)), over=["w_ce"])
    of = {(t.label, t.task): t for t in expand.remembered(found.grid)}
    assert found.grid.seeds == (5,) and of["full", "digits"].budget == Budget(amount=60)
    assert of["full", "mnist"].budget == Budget(amount=7)
    assert of["full", "digits"].settings == {
        "batch": 16, "lr_s": 0.1, "weight_decay": 5e-4, "tau": 2.0, "w_kd": 0.9, "w_ce": 0.2,
    }  # fmt: skip
    assert of["full", "mnist"].settings["w_ce"] == 0.3 and of["- ce", "mnist"].settings["w_ce"] == 0.0
    # the same trials as the grid's own: what ran there is not run again
    own = {t.id for t in expand.remembered(load.load(grid_file(tmp_path))) if t.label == "warm"}
    assert own == {t.id for t in of.values() if t.label == "full"}


def test_a_method_means_its_row_or_its_only_row(tmp_path: Path) -> None:
    file = grid_file(tmp_path)
    assert begin("kd", file).label == "kd"
    assert begin("dafl", file).own == {"ie": 3.0}
    assert begin("cmi", file).own == {}  # no row: the grid's place and budget
    more = {"variants": {"warm": ("kd", {"tau": 2.0}), "warmer": ("kd", {})}, "budgets": {}, "row_seeds": {}}
    file = grid_file(tmp_path, **more)
    build.refused(lambda: begin("kd", file), "has 2 rows of kd: give a row's label instead: 'warm'; 'warmer'")


def test_a_term_that_one_place_alone_has_is_ablated(tmp_path: Path) -> None:
    on = {"mnist": On(settings={"kd": {"w_ce": 0.3}})}
    file = grid_file(tmp_path, on=on, settings={"kd": {"w_ce": 0.0}}, variants={"kd": ("kd", {})}, budgets={},
                     row_seeds={})  # fmt: skip
    found = ablation(begin("kd", file), only="losses")
    of = {(t.label, t.task): (t.settings["w_kd"], t.settings["w_ce"]) for t in expand.remembered(found.grid)}
    assert (of["full", "digits"], of["full", "mnist"]) == ((0.9, 0.0), (0.9, 0.3))
    assert (of["- ce", "digits"], of["- ce", "mnist"]) == ((0.9, 0.0), (0.9, 0.0))
    # on digits nothing is left without KD: that trial fails there, and says so in its cell
    assert (of["- kd", "digits"], of["- kd", "mnist"]) == ((0.0, 0.0), (0.0, 0.3))


def test_overrides_hold_for_every_row(tmp_path: Path) -> None:
    sets = [override.Set("kd", "tau", ("3",)), override.Set("*", "batch", ("8",))]
    found = ablation(
        begin("kd", grid_file(tmp_path), tasks=["digits"], seeds=[7, 8], budget=Budget(amount=5), sets=sets,
              precision="bf16"),
        only="losses",
    )  # fmt: skip
    trials = expand.remembered(found.grid)
    assert {t.seed for t in trials} == {7, 8} and {t.task for t in trials} == {"digits"}
    assert {str(t.budget) for t in trials} == {"5:rounds"} and {t.precision for t in trials} == {"bf16"}
    assert all((t.settings["tau"], t.settings["batch"]) == (3.0, 8) for t in trials)
    own = {"tau": 3.0, "batch": 8, "w_ce": 0.0}  # numbers, not texts
    assert expand.rows_of(found.grid)["- ce"] == ("kd", own)


def test_equal_cost_goes_with_the_row(tmp_path: Path) -> None:
    updates = Budget(amount=20, unit="student_updates")
    more = {"tasks": ("digits",), "on": {}, "budget": updates, "budgets": {"warm": updates}}
    theirs = grid_file(tmp_path, equal_cost="dafl it is", **more)
    own = next(t for t in expand.remembered(load.load(theirs)) if t.label == "kd")
    found = ablation(begin("kd", theirs), only="losses")
    assert {t.budget for t in expand.remembered(found.grid)} == {own.budget} and own.budget.unit == "flops"
    itself = ablation(begin("kd", grid_file(tmp_path, equal_cost="kd", **more)), only="losses")
    assert itself.grid.equal_cost == "full" and len({t.budget for t in expand.remembered(itself.grid)}) == 1


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", load.known())
def test_a_grid_written_back_is_the_same_grid(tmp_path: Path, name: str) -> None:
    grid, file = load.load(name), tmp_path / f"{name}.py"
    file.write_text(write.source(grid, "It.", ["One line.", "", "  Run: it"]))
    assert load.load(file) == grid
    assert max(map(len, file.read_text().splitlines())) <= 110


@pytest.mark.parametrize(
    "value",
    [
        'quo"te\\n\n', "ü ✓", (1,), None, True, 1e-7, 10**40, [1, ""], {}, "word " * 60, "x" * 200,
        "a  " * 60, "(" + "word " * 60 + ")", ("word " * 60,), {"d": [(1, 2)] * 40}, [(1, 2)] * 40,
        {"long": "word " * 60},
    ],
)  # fmt: skip
def test_any_plain_value_is_written_back(value: Any) -> None:
    text = write.field("it", value)
    assert eval(f"dict({text})") == {"it": value}
    assert max(map(len, text.splitlines())) <= 106 or value == "x" * 200


def test_a_docstring_may_hold_anything() -> None:
    grid = Grid(tasks=("digits",), pairs=(("a", "b"),), budget=Budget(amount=1.5))
    text = write.source(grid, 'with """ and \\ in it', ["C:\\new"])
    space: dict[str, Any] = {}
    exec(text, space)
    assert space["GRID"] == grid and space["__doc__"] == 'with """ and \\ in it\n\nC:\\new\n'


def test_a_file_that_says_something_else_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    files.put(file, "one")
    files.put(file, "one")
    build.refused(lambda: files.put(file, "two"), "a.py is there and says something else: remove it")
    assert file.read_text() == "one"
    files.put(file, "two", anew=True)
    assert file.read_text() == "two" and list(tmp_path.glob("*")) == [file]
    build.refused(lambda: files.put(tmp_path / "no" / "a.py", "one"), "cannot be written: No such file")


# --- the command --------------------------------------------------------------------------------


def test_the_command_writes_a_grid_that_list_takes(dfkd: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    words = ["ablate", "kd", "--from", "digits", "--seeds", "0-1", "--over", "w_ce,w_kd", "--write", file]
    code, out, err = dfkd(*words)
    assert (code, err) == (0, "")
    assert "5 rows, 6 trials: digits; wrn16_2->wrn16_1; seeds 0, 1; 1000:student_updates" in out
    assert f"{file}: `dfkd run {file}` runs it" in out and "kd alone (the trials of '- ce')" in out
    text = file.read_bytes()
    dfkd(*words)
    assert file.read_bytes() == text  # the same input, the same bytes
    listed = dfkd("list", file, "--json").json
    found = ablation(begin("kd", "digits", seeds=[0, 1]), over=["w_ce", "w_kd"])
    assert [t["id"] for t in listed] == [t.id for t in expand.remembered(found.grid)]
    assert load.load(file).contrasts["bare + ce"] == "bare"
    told = dfkd(*words, "--json").json
    assert told["trials"] == 6 and told["rows"][2]["settings"] == {"w_ce": 0.0} and told["left_out"] == {}
