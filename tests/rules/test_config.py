"""What a grid declares: settings, budgets, ids, seeds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness import config
from harness.config import Budget, Grid, Recipe, Trial, seed_for
from harness.errors import DfkdError
from harness.grids import expand
from harness.settings import FIDELITY, resolve, setting, weight
from tests.build import refused

FIELDS: dict[str, Any] = {
    "task": "digits",
    "task_version": 1,
    "teacher": "wrn16_2",
    "student": "wrn16_1",
    "method": "cpsc",
    "method_version": 1,
    "settings": {"beta": 1.0, "batch": 64, "fidelity": "corrected", "cfe_embedding_dim": None},
    "recipe": Recipe(name="small", epochs=40, lr=0.1, batch=64),
    "teacher_seed": 0,
    "budget": Budget(amount=300),
    "seed": 2,
    "label": "cpsc",
    "points": 100,
    "cpus": 1,
}
#: the canonical text of that trial, written out by hand: keys sorted, nothing but what may change a number
CANON = (
    '{"budget":{"amount":300.0,"unit":"rounds"},"channels_last":true,"compile":false,"method":"cpsc",'
    '"method_version":1,"precision":"fp32","protocol":1,"recipe":{"batch":64,"epochs":40,"lr":0.1,'
    '"name":"small","weight_decay":0.0005},"seed":2,"settings":{"batch":64,"beta":1.0,'
    '"cfe_embedding_dim":null,"fidelity":"corrected"},"student":"wrn16_1","task":"digits","task_version":1,'
    '"teacher":"wrn16_2","teacher_digest":null,"teacher_seed":0}'
)


def make(**change: Any) -> Trial:
    return Trial(**(FIELDS | change))


# --- ids ----------------------------------------------------------------------------------------


def test_an_id_that_was_asked_for_changes_nothing_else():
    asked, fresh = make(), make()
    assert asked.id and asked == fresh and repr(asked) == repr(fresh)
    assert asked.model_dump() == fresh.model_dump() and asked.model_dump_json() == fresh.model_dump_json()
    assert pickle.loads(pickle.dumps(asked)) == fresh
    for deep in (False, True):
        assert asked.model_copy(update={"seed": 3}, deep=deep).id == make(seed=3).id != asked.id


def test_the_id_is_the_hash_of_what_is_declared_and_stays_what_it_was():
    """Finished trials of others are found by it: changing this number throws their work away."""
    assert make(protocol=1).id == hashlib.sha256(CANON.encode()).hexdigest()[:12] == "9074b7e82063"


@given(st.permutations(sorted(FIELDS)), st.permutations(sorted(FIELDS["settings"])))
def test_the_id_does_not_depend_on_any_order(fields, names):
    settings = {n: FIELDS["settings"][n] for n in names}
    assert Trial(**{name: FIELDS[name] for name in fields} | {"settings": settings}).id == make().id


@given(st.text(max_size=20), st.integers(1, 10**6), st.integers(1, 512))
def test_label_points_cpus_and_metrics_are_not_in_the_id(label, points, cpus):
    assert make(label=label, points=points, cpus=cpus, metrics=("shift",)).id == make().id


CHANGES: list[dict[str, Any]] = [
    {"task": "digits16"},
    {"task_version": 2},
    {"teacher": "wrn40_2"},
    {"student": "lenet5"},
    {"method": "dafl"},
    {"method_version": 2},
    {"teacher_seed": 1},
    {"teacher_digest": "a" * 64},
    {"seed": 3},
    {"precision": "bf16"},
    {"channels_last": False},
    {"compile": True},
    {"protocol": config.PROTOCOL + 1},
    {"settings": {}},
    {"budget": Budget(amount=301)},
    {"budget": Budget(amount=300, unit="student_updates")},
    {"recipe": Recipe(name="small", epochs=41, lr=0.1, batch=64)},
]


def test_whatever_changes_a_number_changes_the_id():
    ids = [make(**change).id for change in CHANGES]
    assert len({make().id, *ids}) == len(CHANGES) + 1


def test_every_field_of_a_trial_is_either_in_the_id_or_known_not_to_be():
    """A new field has to be thought about here."""
    changed = {name for change in CHANGES for name in change}
    assert changed | {"label", "points", "cpus", "metrics"} == set(Trial.model_fields)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.data(),
)
def test_a_changed_setting_changes_the_id(settings, data):
    name = data.draw(st.sampled_from(sorted(settings)))
    other = data.draw(st.floats(allow_nan=False, allow_infinity=False))
    same = json.dumps(other) == json.dumps(settings[name])
    assert (make(settings=settings | {name: other}).id == make(settings=settings).id) is same


@given(st.data())
def test_a_trial_read_back_from_json_keeps_its_id(data):
    amount = data.draw(st.floats(min_value=1e-9, max_value=1e18))
    trial = make(budget=Budget(amount=amount, unit="flops"))
    again = Trial.model_validate(json.loads(json.dumps(trial.model_dump(mode="json"))))
    assert again == trial and again.id == trial.id


# --- budgets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("300", 300.0, "rounds"),
        ("300:rounds", 300.0, "rounds"),
        ("5e12:flops", 5e12, "flops"),
        ("1500:student_updates", 1500.0, "student_updates"),
        ("0.5", 0.5, "rounds"),
    ],
)
def test_budgets(text, amount, unit):
    assert Budget.parse(text) == Budget(amount=amount, unit=unit)


@pytest.mark.parametrize(
    "text", ["", "x", "0", "-3", "nan", "inf", "3:epochs", "3:rounds:4", ":rounds", "3 rounds"]
)
def test_budgets_that_are_none(text):
    with pytest.raises(DfkdError, match="is not AMOUNT"):
        Budget.parse(text)


@given(st.integers(1, 10**15), st.sampled_from(["rounds", "student_updates", "flops"]))
def test_a_budget_reads_what_it_prints(amount, unit):
    budget = Budget(amount=amount, unit=unit)
    assert Budget.parse(str(budget)) == budget


# --- settings -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class HP:
    """One field of every kind."""

    fidelity: str = setting("corrected", "preset", choices=FIDELITY)
    batch: int = setting(64, "images", low=2)
    lr: float = setting(0.1, "rate", low=0.0)
    beta: float = weight(1.0, "weight", term="bn")
    flag: bool = setting(False, "yes or no")
    m: int | None = setting(None, "dimensions", low=1)
    name: str = setting("a", "free text")
    sizes: tuple[int, ...] = setting((1, 2), "numbers")
    order: str = setting("S_first", "order", choices=("S_first", "G_first", "2"))


def value_of(name: str, value: Any) -> Any:
    return resolve("toy", HP, {}, {name: value})[name]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("batch", "128", 128),
        ("batch", 128.0, 128),
        ("lr", "1e-3", 0.001),
        ("lr", 1, 1.0),
        ("beta", "0", 0.0),
        ("flag", "true", True),
        ("flag", "False", False),
        ("flag", True, True),
        ("m", "none", None),
        ("m", "7", 7),
        ("m", None, None),
        ("name", "b c", "b c"),
        ("sizes", "3+4", (3, 4)),
        ("sizes", [5], (5,)),
        ("order", "g_first", "G_first"),
    ],
)
def test_values_become_the_settings_own_type(name, value, wanted):
    found = value_of(name, value)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("batch", "x", "is not a whole number"),
        ("batch", "1.5", "is not a whole number"),
        ("batch", 1, "smallest allowed, 2"),
        ("batch", None, "is not a whole number"),
        ("lr", "fast", "is not a number"),
        ("lr", "nan", "not a finite number"),
        ("lr", "inf", "not a finite number"),
        ("lr", "-1", "smallest allowed, 0"),
        ("beta", "-0.5", "smallest allowed, 0"),
        ("flag", "1", "is not true or false"),
        ("m", "1.5", "a whole number or none"),
        ("m", "0", "smallest allowed, 1"),
        ("order", "sideways", "choose from: S_first, G_first, 2"),
        ("fidelity", "paper", "choose from: corrected, released"),
        ("sizes", "a+b", "is not a list"),
        ("order", True, "not allowed"),
    ],
)
def test_a_value_that_does_not_fit_names_setting_value_and_what_is_allowed(name, value, words):
    refused(lambda: value_of(name, value), f"setting toy.{name} = {value!r}", words)


def test_an_unknown_setting_says_which_was_meant():
    refused(lambda: value_of("bacth", 1), "unknown setting of toy 'bacth'; did you mean 'batch'")


def test_a_preset_lies_between_defaults_and_what_is_given():
    presets = {"fidelity": {"released": {"batch": 512, "lr": 0.2}}}
    found = resolve("toy", HP, presets, {"fidelity": "released", "lr": 0.3})
    assert (found["batch"], found["lr"], found["beta"], found["fidelity"]) == (512, 0.3, 1.0, "released")
    assert resolve("toy", HP, presets, {})["batch"] == 64
    assert set(found) == {f.name for f in dataclasses.fields(HP)}


@given(st.sampled_from(sorted({"lr", "beta"})), st.floats(0, 1e12))
def test_floats_survive_the_command_line(name, value):
    assert value_of(name, repr(value)) == value == value_of(name, value)


# --- seeds and grids ----------------------------------------------------------------------------


def test_seeds_of_streams_are_the_documented_hash():
    raw = hashlib.sha256(b"3/student").digest()
    assert seed_for(3, "student") == int.from_bytes(raw[:8], "big") // 2


def test_streams_and_seeds_never_meet():
    pairs = [(s, name) for s in range(50) for name in ("student", "parts", "train", "eval", "teacher")]
    found = {seed_for(*pair) for pair in random.Random(0).sample(pairs, len(pairs))}
    assert len(found) == len(pairs)
    assert all(0 <= value < 2**63 for value in found)


def grid(**change: Any) -> Grid:
    fields: dict[str, Any] = {
        "tasks": ("digits", "digits16"),
        "pairs": (("wrn16_2", "wrn16_1"), ("lenet5", "lenet5_half")),
        "variants": {"kd": ("kd", {}), "kd hot": ("kd", {"tau": 8})},
        "seeds": range(3),
        "teacher_seeds": (0, 1),
        "budget": Budget(amount=10),
        "budgets": {"kd hot": Budget(amount=20)},
    }
    return Grid(**(fields | change))


def test_a_grid_is_the_product_of_its_axes():
    trials = expand.trials_of(grid())
    assert len(trials) == 2 * 2 * 2 * 2 * 3
    assert len({t.id for t in trials}) == len(trials)
    assert config.labels(trials) == ["kd", "kd hot"]
    told = {(t.label, t.settings["tau"], t.budget.amount) for t in trials}
    assert told == {("kd", 4.0, 10), ("kd hot", 8.0, 20)}


def test_a_variants_own_settings_win_over_its_methods_and_those_over_the_star():
    settings = {"*": {"tau": 1, "batch": 16, "gamma": 3}, "kd": {"tau": 2}}
    found = {t.label: t.settings for t in expand.trials_of(grid(settings=settings))}
    assert (found["kd"]["tau"], found["kd hot"]["tau"]) == (2.0, 8.0)
    assert found["kd"]["batch"] == found["kd hot"]["batch"] == 16
    assert "gamma" not in found["kd"]


def test_a_contrast_changes_no_trial():
    plain, contrasted = grid(), grid(contrasts={"kd hot": "kd"})
    assert expand.trials_of(contrasted) == expand.trials_of(plain)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tasks": ("digts",)}, "unknown task 'digts'; did you mean 'digits'"),
        ({"pairs": (("wrn16_2", "wrn16"),)}, "unknown net 'wrn16'; did you mean 'wrn16_"),
        ({"variants": {"x": ("kdd", {})}, "budgets": {}}, "unknown method 'kdd'"),
        ({"settings": {"kd": {"tao": 1}}}, "unknown setting of kd 'tao'; did you mean 'tau'"),
        ({"budgets": {"kd cold": Budget(amount=1)}}, "unknown row in budgets 'kd cold'"),
        ({"contrasts": {"kd cold": "kd"}}, "unknown row in contrasts 'kd cold'"),
        ({"contrasts": {"kd hot": "kdd"}}, "unknown row in contrasts 'kdd'; did you mean 'kd'"),
        ({"contrasts": {"kd": "kd"}}, "row 'kd' is measured against itself"),
        ({"settings": {"dk": {"tau": 1}}}, "unknown method in settings 'dk'"),
        ({"teacher_recipe": "smal"}, "unknown teacher recipe 'smal'; did you mean 'small'"),
    ],
)
def test_a_grid_names_what_it_does_not_know(change, words):
    refused(lambda: expand.trials_of(grid(**change)), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": ()}, "seeds"),
        ({"precision": "fp8"}, "precision = 'fp8'"),
        ({"points": 0}, "points = 0"),
        ({"colour": 1}, "colour"),
    ],
)
def test_pydantics_first_complaint_is_one_line(change, words):
    with pytest.raises(ValidationError) as caught:
        grid(**change)
    line = config.one_line(caught.value)
    assert words in line and "\n" not in line
