"""The grids in ``benchmarks/``: their headers tell the truth, each moves to another task, pair and budget."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import combinations

import pytest

from harness import registry
from harness.config import Budget, Grid, On, Trial
from harness.grids import expand, load, override
from reports.numbers import published
from tests.build import refused

PAPER = (
    "paper_main", "paper_pairs", "ablation_cfe", "ablation_losses", "sensitivity", "cfe_embedding",
    "image_quality", "robustness",
)  # fmt: skip
SMALL = {"tasks": ("digits",), "pairs": (("wrn16_2", "wrn16_1"),)}


@cache
def of(name: str) -> Grid:
    return load.load(name)


@pytest.fixture(scope="module")
def trials() -> dict[str, list[Trial]]:
    return {name: expand.trials_of(of(name)) for name in load.known()}


#: published numbers
PUBLISHED = cache(published.load)


@cache
def header(name: str) -> str:
    return ast.get_docstring(ast.parse(load.find(name).read_text())) or ""


def part(name: str, title: str) -> str:
    """What a header says under ``Title:``, without what follows."""
    found = re.search(rf"^{title}: *(.*?)(?=^\w+:|^$|\Z)", header(name), re.MULTILINE | re.DOTALL)
    assert found, f"{name} has no {title}"
    return found[1]


def moved(name: str, **more: object) -> list[Trial]:
    return expand.trials_of(override.override(of(name), **(SMALL | more)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def on_digits() -> dict[str, list[Trial]]:
    return {name: moved(name) for name in PAPER}


# --- headers ------------------------------------------------------------------------------------


def test_the_folder_holds_these_grids_and_what_they_share_is_none():
    assert set(PAPER) <= set(load.known()) and {"digits", "defects"} <= set(load.known())
    assert not {"shared", "authors", "tuned", "__init__"} & set(load.known())
    refused(lambda: load.load("tuned"), "unknown grid 'tuned'")


def test_every_header_has_a_command_and_a_cost():
    for name in load.known():
        assert f"dfkd run {name}" in part(name, "Run").replace("benchmarks/", "").replace(".py", ""), name
        assert part(name, "Cost").strip(), name


@pytest.mark.parametrize("name", PAPER)
def test_the_header_counts_rightly(name, trials):
    found, text = trials[name], part(name, "Trials")
    seeds = len({t.seed for t in found})
    rows = len(expand.rows_of(of(name)))
    assert re.match(rf"{len(found)} \({rows} rows\b.*?{seeds} seeds\)", text, re.DOTALL), text
    teachers = {(t.task, t.teacher, t.teacher_seed) for t in found}
    assert f"{len(teachers)} teacher" in text
    if told := re.search(r"(\d+) are different", text):
        assert int(told[1]) == len({t.id for t in found})
    else:
        assert len({t.id for t in found}) == len(found)


@pytest.mark.parametrize("name", PAPER)
def test_the_hours_of_a_header_are_its_flops(name):
    flops, hours = re.match(r"(\S+) FLOP, (\d+) hours", part(name, "Cost")).groups()  # type: ignore[union-attr]
    assert float(hours) == pytest.approx(float(flops) / 50e12 / 3600, abs=0.6)


#: multiply-adds of a forward pass on 3 x 32 x 32, counted layer by layer from the networks' definitions
MACS = {"resnet34": 1159e6, "resnet18": 555e6, "wrn40_2": 328e6, "wrn16_2": 101e6, "G": 117e6}


@pytest.mark.parametrize("name", ["ablation_cfe", "ablation_losses", "sensitivity", "cfe_embedding"])
def test_the_cost_of_a_cpsc_grid_is_its_passes(name, trials):
    """Six steps of G for five of S, by hand; G itself may cost less, its upsampling need not be computed."""
    t = trials[name][0]
    batch, updates = t.settings["batch"], t.budget.amount
    assert (t.settings["g_steps"], t.settings["s_steps"], batch) == (6, 5, 512)
    # per update: T 2.2 forward, 1.2 to the input; S 2.2 forward, 1 to the weights (twice), 1.2 to the input
    nets = 3.4 * MACS[t.teacher] + 5.4 * MACS[t.student]
    each = 2 * batch * updates * len({t.id for t in trials[name]})
    said = float(part(name, "Cost").split()[0])
    assert each * nets < said < each * (nets + 4.6 * MACS["G"])


@pytest.mark.parametrize("name", ["image_quality", "robustness"])
def test_what_is_shared_with_the_main_table_is_shared(name, trials):
    main = {t.id for t in trials["paper_main"]}
    shared = sum(t.id in main for t in trials[name])
    said = part(name, "Trials")
    assert f"{shared} are those of `paper_main`" in said or (
        shared == len(trials[name]) and "all are" in said
    )


@pytest.mark.parametrize("name", ["ablation_cfe", "ablation_losses", "cfe_embedding"])
def test_the_full_method_is_the_main_tables_own_trial(name, trials):
    whole = {t.id for t in trials["paper_main"] if t.label == "cpsc" and t.task == "cifar100"}
    assert whole and whole <= {t.id for t in trials[name]}


@pytest.mark.parametrize("name", PAPER)
def test_expected_numbers_are_published_ones(name, trials):
    legal = {
        r.value
        for r in PUBLISHED()
        for task, teacher, student in {(t.task, t.teacher, t.student) for t in trials[name]}
        if r.metric in ("top1", "top1_gain")
        and r.task == task
        and (r.pair == "unknown" or (r.teacher in ("", teacher) and r.student in ("", student)))
    }
    said = [float(n) for n in re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", part(name, "Expect"))]
    if name == "sensitivity":
        said = [n for n in said if n not in (0.5, 0.9)]  # ends of the range that is recommended
    assert set(said) <= legal, set(said) - legal
    assert name not in ("paper_main", "paper_pairs", "ablation_cfe") or said


def beside(t: Trial) -> published.Match:
    """What a report prints beside a trial's row."""
    place = {"task": t.task, "teacher": t.teacher, "student": t.student}
    return published.match(PUBLISHED(), method=t.method, settings=t.settings, **place)


def test_the_main_tables_numbers_are_those_that_stand_beside_its_rows(trials):
    """What the header expects of a row is what a report prints beside it."""
    said = {float(n) for n in re.findall(r"\d+\.\d+", part("paper_main", "Expect"))}
    for t in trials["paper_main"]:
        found = beside(t)
        assert found.best is None or found.best.value in said, (t.cell, found.best)


def test_every_row_can_be_named_on_the_command_line():
    for label in {label for name in PAPER for label in expand.rows_of(of(name))}:
        assert override.words(label) == [label]


# --- what the rows are --------------------------------------------------------------------------


def test_cfe_rows_are_every_choice_of_norms_once(trials):
    layers = {t.label: t.settings["cfe_layers"] for t in trials["ablation_cfe"]}
    assert len(set(layers.values())) == 16 == len(layers)
    dropped = {"drop0": {1, 2, 3}, "drop1": {0, 2, 3}, "drop2": {0, 1, 3}, "drop3": {0, 1, 2}}
    read = {
        label: set(range(4)) if v == "full" else set() if v == "none"
        else dropped[v] if v in dropped else {int(n) for n in v.split("+")}
        for label, v in layers.items()
    }  # fmt: skip
    every = [set(c) for n in range(5) for c in combinations(range(4), n)]
    assert sorted(map(sorted, read.values())) == sorted(map(sorted, every))
    for label, norms in read.items():
        digits = {int(n) for n in re.findall(r"\d", label)}
        assert digits == norms or label == "all four"


def test_sensitivity_covers_the_recommended_range(trials):
    found = [t.settings for t in trials["sensitivity"] if t.label.startswith("alpha")]
    plane = {(s["alpha"], s["gamma"]) for s in found}
    assert plane == {(a, g) for a in (1, 3, 5, 7, 9) for g in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)}
    default = registry.methods.get("cpsc").HP()
    for name in ("beta", "eta", "scl_tau"):
        values = {t.settings[name] for t in trials["sensitivity"] if t.label.startswith(f"{name} ")}
        assert getattr(default, name) in values and len(values) >= 5
        assert min(values) < getattr(default, name) < max(values)


def test_authors_settings_follow_task_and_pair(trials):
    def one(name: str, *cell: str) -> dict[str, object]:
        of = {(t.task, f"{t.teacher}:{t.student}", t.label): t.settings for t in trials[name]}
        return of[cell]

    def weights(settings: dict[str, object], *names: str) -> tuple[object, ...]:
        return tuple(settings[n] for n in names)

    r34 = "resnet34:resnet18"
    assert weights(one("paper_main", "cifar10", r34, "dafl"), "oh", "a", "ie") == (0.05, 0.01, 5.0)
    assert weights(one("paper_main", "cifar100", r34, "dafl"), "oh", "a", "ie") == (0.5, 0.1, 20.0)
    for task in ("cifar10", "cifar100"):
        datafree = one("paper_main", task, r34, "dafl (DataFree)")
        assert weights(datafree, "oh", "a", "ie") == (1.0, 0.001, 20.0)
    # the table of FastDFKD's scripts: adv and oh go with the pair, the rates with k
    wanted = {r34: (1.33, 0.5), "vgg11:resnet18": (1.0, 0.5), "wrn40_2:wrn16_1": (1.1, 0.4)}
    for pair, (adv, oh) in wanted.items():
        name = "paper_main" if pair == r34 else "paper_pairs"
        for k, lr_z, lr_g in ((2, 0.015, 5e-3), (5, 0.01, 3e-3), (10, 0.01, 2e-3)):
            fast = one(name, "cifar10", pair, f"fast k={k}")
            assert weights(fast, "g_steps", "adv", "oh", "lr_z", "lr_g") == (k, adv, oh, lr_z, lr_g)
    assert one("paper_main", "cifar10", r34, "dfq")["lr_s"] == 0.05
    assert one("paper_pairs", "cifar10", "wrn40_2:wrn16_1", "dfq")["lr_s"] == 0.1


def test_the_published_row_of_a_main_method_has_our_settings(trials):
    """What the tables call a method is what the grid runs under its name: none stays without its number."""
    missing = set()
    for t in trials["paper_main"] + trials["paper_pairs"]:
        if t.task != "tiny_imagenet" and not t.seed and (found := beside(t)).best is None and found.others:
            missing.add(t.label)
    assert missing <= {
        "kd", "noise", "dafl", "dafl (DataFree)", "zskt", "zskt (DataFree)", "dfad (DataFree)",
        "adi (DataFree)",
    }  # fmt: skip
    # the references but for CRD's recipe, and the loop whose number stands beside the other row of the method


# --- moving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPER)
def test_a_grid_moves_to_digits_with_the_settings_of_digits(name, trials, on_digits):
    found = on_digits[name]
    assert {t.task for t in found} == {"digits"} and {t.student for t in found} == {"wrn16_1"}
    assert len({t.budget for t in found}) == 1, "no row keeps the budget it has on CIFAR"
    assert found[0].budget in (Budget.parse("500:student_updates"), Budget.parse("1000:student_updates"))
    demo = {t.label: t.settings for t in trials["digits"]}["cpsc"]
    rows = expand.rows_of(of(name))
    for t in found:
        if t.method == "cpsc":
            changed = {k for k in demo if demo[k] != t.settings[k]}
            own = rows[t.label][1]
            preset = {"fidelity", "g_optimizer", "ce", "l2", "adapter", "order", "amp"}
            assert changed <= own.keys() | (preset if "fidelity" in own else set()), t.cell
        assert t.settings["batch"] == 128 or t.method in ("kd", "scratch"), t.cell


#: student updates of a method as its paper counts them, epochs by steps of each; 200 x 400 of the others
UPDATES = {"dafl": 2000 * 120, "zskt": 80_000 * 10, "dfad": 500 * 250, "cpsc": 600 * 250}
UPDATES |= dict.fromkeys(("scratch", "kd", "noise", "untrained"), 200 * 390)


@pytest.mark.parametrize("name", PAPER)
def test_a_grid_has_the_papers_budgets_and_seeds_or_those_of_the_command_line(name, trials):
    for t in trials[name]:  # a DataFree row is of that family, whatever its method
        updates = 200 * 400 if "DataFree" in t.label else UPDATES.get(t.method, 200 * 400)
        assert t.budget == Budget(amount=updates, unit="student_updates"), t.cell
    assert {t.seed for t in trials[name]} == {0, 1, 2}
    found = moved(name, budget=Budget(amount=100), seeds=range(5))
    assert {(t.budget, t.seed) for t in found} == {(Budget(amount=100), seed) for seed in range(5)}
    assert len(found) == 5 * len(expand.rows_of(of(name)))


def test_a_row_renamed_by_set_keeps_the_settings_of_digits():
    found = moved("ablation_cfe", methods=["all four"], sets=[override.parse_set("cpsc.gamma=0,0.7")])
    assert {(t.label, t.settings["gamma"], t.settings["alpha"]) for t in found} == {
        ("all four gamma=0", 0.0, 6.45),
        ("all four gamma=0.7", 0.7, 6.45),
    }


def test_the_moved_main_table_and_the_demo_share_their_trials(trials, on_digits):
    demo = {t.id for t in trials["digits"] if t.label == "cpsc"}
    assert {t.id for t in on_digits["paper_main"] if t.label == "cpsc"} == demo and len(demo) == 3


def test_a_moved_grid_says_whose_settings_it_has():
    assert "CIFAR-100 command" in of("ablation_cfe").notes()
    here = override.override(of("ablation_cfe"), **SMALL)
    assert here.notes().startswith("Not the authors' settings.") and "CIFAR" not in here.notes()
    both = override.override(of("ablation_cfe"), tasks=["cifar100", "digits"])
    assert both.notes().startswith("cifar100 resnet34:resnet18: Settings of CPSC's")
    assert "digits resnet34:resnet18: Not the authors' settings." in both.notes()


# --- `on` ---------------------------------------------------------------------------------------

TASK, PAIR = "digits", ("wrn16_2", "wrn16_1")


def test_a_task_may_have_points_of_its_own_which_enter_no_id(trials, on_digits):
    own = of("ablation_cfe").on["digits"].model_copy(update={"points": 7})
    whole = override.override(of("ablation_cfe"), **SMALL)
    few = whole.model_copy(update={"on": whole.on | {"digits": own}})
    found = expand.trials_of(few)
    assert {t.points for t in found} == {7}
    assert [t.id for t in found] == [t.id for t in on_digits["ablation_cfe"]]
    assert {t.points for t in trials["ablation_cfe"]} == {100}


def grid(**more: object) -> Grid:
    fields: dict[str, object] = {
        "tasks": (TASK, "mnist"), "pairs": (PAIR, ("lenet5", "lenet5_half")), "seeds": (0,),
        "variants": {"kd": ("kd", {}), "dfq": ("dfq", {}), "own": ("dfq", {"bn": 9.0})},
        "settings": {"*": {"batch": 8}, "dfq": {"bn": 1.5}}, "budget": Budget(amount=10),
        "budgets": {"dfq": Budget(amount=20)},
    }  # fmt: skip
    return Grid(**(fields | more))  # type: ignore[arg-type]


def weight(found: Grid, name: str = "bn") -> dict[tuple[str, str, str], object]:
    return {
        (t.label, t.task, t.teacher): t.settings[name] for t in expand.trials_of(found) if name in t.settings
    }


def test_task_wins_over_pair_and_both_over_either():
    pair, task = On(settings={"dfq": {"bn": 2.0}}), On(settings={"dfq": {"bn": 3.0}})
    both = On(settings={"dfq": {"bn": 4.0}})
    found = weight(grid(on={"wrn16_2:wrn16_1": pair, "digits wrn16_2:wrn16_1": both, "digits": task}))
    assert found[("dfq", "digits", "wrn16_2")] == 4.0
    assert found[("dfq", "digits", "lenet5")] == 3.0
    assert found[("dfq", "mnist", "wrn16_2")] == 2.0
    assert found[("dfq", "mnist", "lenet5")] == 1.5
    assert {v for (label, *_), v in found.items() if label == "own"} == {9.0}, "a row's own settings win"


def test_a_star_on_a_task_wins_over_the_method_of_the_grid():
    on = {TASK: On(settings={"*": {"batch": 32}})}
    found = weight(grid(settings={"*": {"batch": 8}, "dfq": {"batch": 16}}, on=on), "batch")
    assert found[("dfq", "digits", "lenet5")] == 32 and found[("dfq", "mnist", "lenet5")] == 16
    assert found[("kd", "digits", "lenet5")] == 32 and found[("kd", "mnist", "lenet5")] == 8


def test_a_budget_on_a_task_is_every_rows():
    found = grid(on={TASK: On(budget=Budget(amount=5))})
    spent = {(t.label, t.task): t.budget.amount for t in expand.trials_of(found)}
    assert {v for (_, task), v in spent.items() if task == TASK} == {5}
    assert (spent["dfq", "mnist"], spent["kd", "mnist"]) == (20, 10)
    asked = override.override(found, budget=Budget(amount=7))
    assert {t.budget.amount for t in expand.trials_of(asked)} == {7}


def test_a_teacher_of_one_cell_may_be_trained_otherwise():
    found = expand.trials_of(grid(on={f"{TASK} lenet5:lenet5_half": On(teacher_recipe="mnist_short")}))
    made = {(t.task, t.teacher): t.recipe.name for t in found}
    assert made[TASK, "lenet5"] == "mnist_short"
    assert (made[TASK, "wrn16_2"], made["mnist", "lenet5"]) == ("small", "mnist")


def test_equal_cost_asks_for_the_budget_and_the_settings_of_the_cell(monkeypatch):
    asked = []

    def count(method: str, settings: dict[str, object], *where: object) -> float:
        asked.append((method, settings["bn"]))
        return 3.0

    monkeypatch.setattr("harness.trials.costs.flops_per_update", count)
    on = On(settings={"dfq": {"bn": 4.0}}, budget=Budget.parse("20:student_updates"))
    updates = Budget.parse("10:student_updates")
    made = grid(pairs=(PAIR,), budget=updates, budgets={}, on={TASK: on}, equal_cost="dfq")
    spent = {t.task: str(t.budget) for t in expand.trials_of(made) if t.label == "kd"}
    assert spent == {TASK: "60:flops", "mnist": "30:flops"}
    assert asked == [("dfq", 4.0), ("dfq", 1.5)]


def test_an_empty_on_changes_no_id():
    noted = grid(on={TASK: On(note="a note")})
    assert [t.id for t in expand.trials_of(grid())] == [t.id for t in expand.trials_of(noted)]


@pytest.mark.parametrize(
    ("key", "part", "words"),
    [
        ("digit", {}, "unknown task 'digit'; did you mean 'digits'"),
        ("digits wrn16_2:wrn16", {}, "unknown net 'wrn16'"),
        ("wrn16_3:wrn16_1", {}, "unknown net 'wrn16_3'; did you mean"),
        ("digitz wrn16_2:wrn16_1", {}, "unknown task 'digitz'"),
        (TASK, {"settings": {"dqf": {}}}, "unknown method in settings 'dqf'; did you mean 'dfq'"),
        (TASK, {"settings": {"dfq": {"bnn": 1}}}, "unknown setting of dfq 'bnn'; did you mean 'bn'"),
        (TASK, {"teacher_recipe": "mnist_shrt"}, "unknown teacher recipe 'mnist_shrt'; did you mean"),
    ],
)
def test_a_cell_or_what_it_holds_that_nobody_has_is_said(key, part, words):
    refused(lambda: expand.trials_of(grid(on={key: On(**part)})), words)


def test_a_folder_may_have_settings_of_its_own():
    task = "folder:/some images/a?side=32"
    found = grid(tasks=(task,), on={task: On(settings={"dfq": {"bn": 7.0}})})
    assert weight(found)[("dfq", task, "wrn16_2")] == 7.0
