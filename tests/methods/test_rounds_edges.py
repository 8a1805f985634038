"""Where tasks and settings are extreme, a method runs to finite numbers or refuses in one line."""

import copy
import functools

import pytest
import torch

from harness import registry
from harness.errors import DfkdError
from harness.nets.catalog import spec
from harness.settings import resolve, settings_of
from harness.trials.check import same
from harness.trials.toy import STUDENT, TOY, toy_method, toy_problem
from methods import cmi
from methods.shared import inversion
from methods.shared.pool import Pool
from tests.methods.by_hand import on, rows_of

METHODS = registry.methods.available()
POOLED = ("deepinversion", "adi", "cmi", "fast")
#: what a method must be told for a teacher without BatchNorm; the others run as they are
WITHOUT_BN = {
    "cpsc": {"beta": 0},
    "zskt": {"at": 0},  # its stages differ from the student's in side
    "dfq": {"bn": 0},
    "deepinversion": {"bn": 0},
    "adi": {"bn": 0},
    "fast": {"bn": 0},
    "cmi": {"bn": 0, "features": "maps"},
}
each = pytest.mark.parametrize("name", METHODS)


def _runs(m, rounds=1):
    """Rounds of finite terms that move the student."""
    before = [p.detach().clone() for p in m.S.parameters()]
    for _ in range(rounds):
        terms = m.round()
        assert terms and all(torch.isfinite(v) for v in terms.values()), terms
    assert all(torch.isfinite(p).all() for p in m.S.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, m.S.parameters(), strict=True))
    return terms


@each
def test_a_teacher_without_batchnorm_is_refused_in_a_line_that_helps_or_works(name):
    cls = registry.methods.get(name)
    pair = TOY, spec("lenet5", TOY), spec(STUDENT, TOY)
    fix = WITHOUT_BN.get(name, {})
    reason = cls.skip(cls.HP(**resolve(name, cls.HP, cls.PRESETS, {})), *pair)
    if fix:
        assert "lenet5" in reason and "\n" not in reason
        assert all(f"{k}={v}" in reason for k, v in fix.items())
    else:
        assert reason is None
    assert cls.skip(cls.HP(**resolve(name, cls.HP, cls.PRESETS, fix)), *pair) is None
    _runs(toy_method(name, fix, problem=toy_problem(teacher="lenet5")))


def test_noise_with_batch_statistics_is_refused_for_a_teacher_without_batchnorm():
    cls = registry.methods.get("noise")
    reason = cls.skip(cls.HP(teacher_bn="batch"), TOY, spec("lenet5", TOY), spec(STUDENT, TOY))
    assert "teacher_bn=stored" in reason and "\n" not in reason


@each
def test_one_class_is_finite(name):
    m = on(name, classes=("only",))
    terms = m.round()
    assert terms and all(torch.isfinite(v) for v in terms.values()), terms
    for module in (m.S, *m.parts.values()):
        assert all(torch.isfinite(p).all() for p in module.parameters())
    found = m.sample(3, torch.zeros(3, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert found is None or torch.isfinite(found[0]).all()


BATCHES = [
    (name, key)
    for name in METHODS
    for key in ("batch", "synthesis_batch")
    if key in settings_of(registry.methods.get(name).HP)
]


@pytest.mark.parametrize(("name", "key"), BATCHES)
def test_a_batch_of_one_is_refused_and_of_two_works(name, key):
    cls = registry.methods.get(name)
    with pytest.raises(DfkdError, match=rf"^setting {name}\.{key} = 1 is below the smallest allowed, 2$"):
        resolve(name, cls.HP, cls.PRESETS, {key: 1})
    _runs(toy_method(name, {key: 2}))


@each
def test_three_channels_and_a_side_that_is_no_multiple_of_four(name):
    m = on(
        name,
        side=11,
        channels=3,
        mean=(0.2, 0.4, 0.6),
        std=(0.1, 0.2, 0.3),
        augment=frozenset({"pad", "flip"}),
    )
    _runs(m)
    found = m.sample(5, None, torch.Generator().manual_seed(0))
    assert found is None or tuple(found[0].shape) == (5, 3, 11, 11)


# --- more classes than images -----------------------------------------------------------------------

MANY = {"classes": tuple(f"c{i}" for i in range(20))}
FEW = {"batch": 4, "synthesis_batch": 4, "targets": "balanced"}


@each
def test_more_classes_than_images_in_a_batch(name):
    keys = settings_of(registry.methods.get(name).HP)
    _runs(on(name, {k: v for k, v in FEW.items() if k in keys}, **MANY), rounds=2)


@pytest.mark.parametrize("name", POOLED)
def test_labels_that_the_pool_has_not_are_answered_with_what_it_has(name):
    m = on(name, FEW, **MANY)
    m.round()
    assert m.pool.column("y").tolist() == [0, 1, 2, 3]
    ask = torch.tensor([3, 19, 0, 7, 3, 1])
    x, y = m.sample(6, ask, torch.Generator().manual_seed(0))
    assert y[[0, 2, 4, 5]].tolist() == [3, 0, 3, 1] and set(y[[1, 3]].tolist()) <= {0, 1, 2, 3}
    held = rows_of(m.pool)["x"]
    assert all(torch.equal(image, held[label]) for image, label in zip(x, y, strict=True))


#: steps so long that the loss does not simply fall
FAR = {"g_steps": 6, "lr_x": 2.0, "jitter": 0.25}
KEPT = {
    "deepinversion": (FAR, "best", "after"),
    "adi": (FAR, "best", "after"),
    "cmi": ({"g_steps": 4, "lr_g": 0.05}, "after", "best"),
    "fast": ({"g_steps": 3, "lr_g": 0.02}, "after", "best"),
}


@pytest.mark.parametrize("fidelity", ["corrected", "released"])
@pytest.mark.parametrize("name", KEPT)
def test_images_kept_are_those_after_the_last_step_or_of_least_loss_before_it(name, fidelity):
    steps, *keep = KEPT[name]
    m = toy_method(name, steps | {"s_steps": 1, "fidelity": fidelity})
    seen, renders, begin, terms_I = [], [], m.begin, m.terms_I
    m.begin = lambda y: renders.append(begin(y)) or renders[0]

    def watch(x, y):
        terms = terms_I(x, y)
        seen.append((sum(terms.values()).item(), x.detach().clone()))
        return terms

    m.terms_I = watch
    m.synthesize()
    x, last = m.pool.column("x"), renders[0]().detach()
    assert m.hp.keep == keep[fidelity == "released"]
    if m.hp.keep == "best":
        least = min(seen, key=lambda pair: pair[0])
        assert torch.equal(x, least[1]) and not torch.allclose(x, last, atol=1e-3)
        assert steps is not FAR or seen[0] is not least is not seen[-1], "it would prove nothing"
    else:
        assert torch.allclose(x, last, atol=1e-5)
        assert not any(torch.allclose(x, other, atol=1e-3) for _, other in seen)


@pytest.mark.parametrize("name", POOLED)
def test_a_warm_up_fills_the_pool_without_an_opponent_and_trains_no_student(name):
    m = toy_method(name, {"g_steps": 1, "s_steps": 1, "warmup_rounds": 4})  # the toy clock stands at round 3
    before = copy.deepcopy(m.S.state_dict())
    got = m.round()
    assert "G/bn" in got and "G/adv" not in got and not any(k.startswith("S/") for k in got)
    assert same(dict(m.S.state_dict()), dict(before)) and "S" not in m.updates
    m.problem.clock.round = 4
    got = m.round()
    assert "S/kd" in got and ("G/adv" in got) == (name != "deepinversion")
    assert len(m.pool) == 16  # what the warm-up made is there


@pytest.mark.parametrize("name", POOLED)
def test_more_samples_than_the_pool_holds(name):
    m = toy_method(name)
    m.round()
    x, y = m.sample(50, None, torch.Generator().manual_seed(0))
    assert len(x) == len(y) == 50


@pytest.mark.parametrize("name", POOLED)
def test_a_pool_smaller_than_a_batch_keeps_the_last(name):
    m = toy_method(name, {"pool": 3} | ({"bank": 3} if name == "cmi" else {}))
    _runs(m, rounds=2)
    assert len(m.pool) == 3 and m.pool.total == 16


# --- a pool that memory does not hold ---------------------------------------------------------------


@pytest.mark.parametrize("name", POOLED)
def test_a_pool_on_disk_gives_the_same_bits(name, monkeypatch, tmp_path):
    def run(scratch=None):
        problem = toy_problem()
        problem.scratch = scratch
        m = toy_method(name, {"pool": 20, "s_steps": 1, "g_steps": 1}, problem=problem)
        terms = [m.round() for _ in range(3)][-1]
        return m, terms

    m, terms = run()
    small = functools.partial(Pool, in_memory=100)
    monkeypatch.setattr(inversion, "Pool", small)
    monkeypatch.setattr(cmi, "Pool", small)
    for scratch in (None, tmp_path / "run"):
        mapped, got = run(scratch)
        assert not m.pool.mapped and all(pool.mapped for pool in mapped.pools.values())
        assert got == terms
        assert all(torch.equal(a, b) for a, b in zip(m.S.parameters(), mapped.S.parameters(), strict=True))


# --- steps of zero ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in METHODS if "g_steps" in settings_of(registry.methods.get(n).HP)])
def test_no_generator_steps_is_a_student_alone_or_is_refused(name):
    cls = registry.methods.get(name)
    if settings_of(cls.HP)["g_steps"][1].low:
        with pytest.raises(DfkdError, match=rf"^setting {name}\.g_steps = 0 is below"):
            resolve(name, cls.HP, cls.PRESETS, {"g_steps": 0})
    elif name == "dafl":
        with pytest.raises(DfkdError, match="g_steps=0"):
            toy_method(name, {"g_steps": 0})
    else:
        assert all(k.startswith("S/") for k in _runs(toy_method(name, {"g_steps": 0})))
