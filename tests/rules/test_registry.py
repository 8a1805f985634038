"""Names to objects: our files, and plug-ins that work, break, or are something else."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import ClassVar

import pytest

from harness import registry
from harness.config import Budget, Grid
from harness.grids import expand
from harness.interface import Method, Terms
from harness.nets import catalog
from harness.settings import setting
from methods.kd import KD
from methods.scratch import Settings
from tests.build import refused

OURS = {
    "scratch", "kd", "noise", "untrained", "dafl", "dfad", "zskt", "deepinversion", "adi", "dfq", "cmi",
    "fast", "cpsc",
}  # fmt: skip
GRID = Grid(tasks=("digits",), pairs=(("lenet5", "lenet5_half"),), budget=Budget(amount=1), seeds=(0,))


class Settled:
    """What `registry.methods` is, with plug-ins of our choice; a fresh one remembers nothing."""

    def __init__(self, monkeypatch, **plugins: object) -> None:
        module = ModuleType("dfkd_test_plugins")
        for name, value in plugins.items():
            setattr(module, name, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        points = [EntryPoint(name, f"{module.__name__}:{name}", registry.GROUP) for name in plugins]
        points += [EntryPoint("broken", "no_such_package.method", registry.GROUP)]
        monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
        self.methods = registry.Methods()
        monkeypatch.setattr(registry, "methods", self.methods)


class Half(Method):
    """Abstract still: `sample` is missing."""

    HP = Settings

    def synthesize(self) -> Terms:
        return Terms()

    def distill(self) -> Terms:
        return Terms()


class Plug(Half):
    """A complete method of somebody else's."""

    HP = Settings
    TITLE: ClassVar[str] = "plug"
    PAPER: ClassVar[str] = "none"
    YEAR: ClassVar[int] = 2030

    def sample(self, n, labels, rng):
        return None


def test_ours_are_found_by_their_files():
    assert set(registry.methods.names()) >= OURS
    assert registry.methods.get("kd") is KD
    assert not set(registry.methods.names()) & {"shared", "losses", "student"}


def test_references_come_first_then_years():
    names = registry.methods.available()
    assert names[:2] == ["scratch", "kd"] and names.index("dafl") < names.index("cpsc")


def test_an_unknown_name_says_which_was_meant():
    refused(lambda: registry.methods.get("cspc"), "unknown method 'cspc'; did you mean 'cpsc'")
    refused(lambda: registry.methods.get("zzzz"), "unknown method 'zzzz'; known: ", "cpsc")
    refused(lambda: catalog.nets.check("wrn_16_2"), "unknown net 'wrn_16_2'; did you mean 'wrn16_2'")
    refused(lambda: registry.methods.get("losses"), "unknown method 'losses'")


def test_a_plug_in_is_a_method_like_any_other(monkeypatch):
    found = Settled(monkeypatch, plug=Plug).methods
    assert found.get("plug") is Plug
    assert found.available()[-1] == "plug", "a data-free method of 2030"
    assert {t.method for t in expand.trials_of(GRID)} == OURS | {"plug"}, "the broken one stops nobody"


def test_a_module_with_one_method_will_do(monkeypatch):
    module = ModuleType("one_method")
    module.Own = type("Own", (Plug,), {"__module__": "one_method"})
    module.Method = Method
    two = ModuleType("two_methods")
    two.A, two.B = (type(n, (Plug,), {"__module__": "two_methods"}) for n in "AB")
    found = Settled(monkeypatch, one=module, two=two).methods
    assert found.get("one") is module.Own
    refused(lambda: found.get("two"), "two_methods defines 2 methods")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "plug-in 'broken' cannot be loaded: ModuleNotFoundError"),
        ("half", "method 'half' is not a complete subclass"),
        ("number", "method 'number' is not a complete subclass"),
        ("other", "method 'other' is not a complete subclass"),
    ],
)
def test_a_plug_in_that_cannot_be_used_says_why_and_stops_nobody(monkeypatch, name, words):
    found = Settled(monkeypatch, half=Half, number=3, other=dict).methods
    refused(lambda: found.get(name), words)
    cls, error = found.error_or(name)
    assert cls is None and words in error
    assert name in found.names() and set(found.available()) == OURS
    assert set(expand.rows_of(GRID)) == OURS
    refused(lambda: expand.trials_of(GRID.model_copy(update={"variants": {"row": (name, {})}})), words)


def test_a_plug_in_that_raises_anything_on_import_is_listed_with_it(monkeypatch):
    class Exploding:
        name, group, value = "exploding", registry.GROUP, "x:y"

        def load(self):
            raise RuntimeError("needs a licence server")

    monkeypatch.setattr(registry, "entry_points", lambda group: [Exploding()])
    found = registry.Methods()
    told = "DfkdError: plug-in 'exploding' cannot be loaded: RuntimeError: needs a licence server"
    assert found.error_or("exploding") == (None, told)
    assert set(found.available()) == OURS


def test_a_plug_in_cannot_take_the_name_of_one_of_ours(monkeypatch):
    assert Settled(monkeypatch, kd=Plug).methods.get("kd") is KD


def test_a_method_without_hp_is_told_so(monkeypatch):
    monkeypatch.delattr(Plug, "HP")
    monkeypatch.delattr(Half, "HP")
    refused(lambda: Settled(monkeypatch, nohp=Plug).methods.get("nohp"), "has no HP")


def test_settings_of_a_plug_in_reach_its_trials(monkeypatch):
    @dataclass(frozen=True)
    class HP:
        sharpness: float = setting(1.0, "how sharp", low=0.0)

    monkeypatch.setattr(Plug, "HP", HP)
    Settled(monkeypatch, plug=Plug)
    grid = GRID.model_copy(update={"variants": {"p": ("plug", {"sharpness": "2"})}})
    assert expand.trials_of(grid)[0].settings == {"sharpness": 2.0}


def test_a_role_that_there_is_none_of_is_refused():
    one_of = "role 'step' must be one of batch, steps, warmup, store"
    refused(lambda: setting(1, "steps in a round", role="step"), one_of)
    refused(lambda: setting(0.5, "steps in a round", role="steps"), "its default a whole number")
