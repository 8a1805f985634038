"""Conformance of every registered method, what all share, and the references and controls.

One round of every other method against its equations: tests/methods/test_rounds_*.py.
"""

import copy

import pytest
import torch

from harness import registry
from harness.errors import DfkdError, Diverged
from harness.settings import resolve
from harness.trials import check
from harness.trials.toy import toy_method
from tests.methods.by_hand import ce, close_moves, gradients, inputs, kl, moved, stream, weights

METHODS = registry.methods.available()


@pytest.mark.parametrize("rule", check.CHECKS, ids=lambda r: r.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_conformance(name, rule):
    rule(name)


def test_a_nan_names_its_term():
    m = toy_method("dfad")
    with torch.no_grad():
        m.S.fc.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"'G'.*round 3.*l1"):
        m.synthesize()


@pytest.mark.parametrize("name", [n for n in METHODS if registry.methods.get(n).PRESETS])
def test_a_preset_changes_what_it_names_and_yields_to_what_is_given(name):
    cls = registry.methods.get(name)
    defaults = resolve(name, cls.HP, cls.PRESETS, {})
    for key, presets in cls.PRESETS.items():
        for value, changes in presets.items():
            got = resolve(name, cls.HP, cls.PRESETS, {key: value})
            assert got == defaults | {key: value} | changes
            for changed in changes:
                kept = resolve(name, cls.HP, cls.PRESETS, {key: value, changed: defaults[changed]})
                assert kept[changed] == defaults[changed]


@pytest.mark.parametrize(
    ("name", "released"),
    [
        ("cpsc", {"g_optimizer": "rebuilt", "ce": "softmax", "adapter": "frozen", "order": "G_first"}),
        ("fast", {"keep": "best", "meta": "fomaml", "meta_gradient": "sum", "reset_l0": "released"}),
    ],
)
def test_released_presets_turn_every_switch_back(name, released):
    cls = registry.methods.get(name)
    assert released.items() <= resolve(name, cls.HP, cls.PRESETS, {"fidelity": "released"}).items()


def test_kd_and_scratch_are_their_equations():
    for name in ("scratch", "kd"):
        m, twin = toy_method(name), toy_method(name)
        x, y = twin.images.batch(8)
        with torch.no_grad():
            s, t = twin.S(x), twin.T(x)
        truth = ce(s, y).item()
        got = m.round()
        if name == "scratch":
            assert got["S/ce"].item() == pytest.approx(truth, rel=1e-4)
        else:
            assert got["S/ce"].item() == pytest.approx(0.1 * truth, rel=1e-4)
            assert got["S/kd"].item() == pytest.approx(0.9 * 16 * kl(t / 4, s / 4).item(), rel=1e-3)


# --- controls ---------------------------------------------------------------------------------------


def test_noise_is_gaussian_in_the_task_s_mean_and_deviation_and_distilled_once():
    m = toy_method("noise", {"s_steps": 1, "tau": 2.0})
    noise = torch.randn(8, 1, 8, 8, generator=stream(m))
    x = 0.3 + 0.35 * noise  # the toy task's constants
    twin = copy.deepcopy(m.S)
    s, t = twin(x), m.T(x)
    loss = 4 * kl(t / 2, s / 2)
    got = m.round()
    assert got["S/kd"].item() == pytest.approx(loss.item(), rel=1e-4)
    for p, g in zip(m.S.parameters(), gradients(loss, twin), strict=True):
        assert torch.allclose(p.grad, g, atol=1e-5, rtol=1e-3)
    assert torch.allclose(m.sample(8, None, torch.Generator().manual_seed(0))[0].mean(), x.mean(), atol=0.1)


def test_a_teacher_on_batch_statistics_answers_otherwise_and_keeps_its_buffers():
    m = toy_method("noise", {"teacher_bn": "batch", "s_steps": 2, "tau": 1.0})
    stored = {k: v.clone() for k, v in m.T.state_dict().items()}
    x = 0.3 + 0.35 * torch.randn(8, 1, 8, 8, generator=stream(m))
    twin = copy.deepcopy(m.T).train()
    with torch.no_grad():
        expected, plain = twin(x), m.T(x)
    lesson = next(m.lessons())
    assert torch.allclose(lesson.t.logits, expected, atol=1e-5)
    assert not torch.allclose(lesson.t.logits, plain, atol=1e-2)
    m.round()
    assert not m.T.training
    assert all(torch.equal(v, stored[k]) for k, v in m.T.state_dict().items())


def test_an_untrained_generator_never_moves_and_its_images_are_distilled():
    m = toy_method("untrained", {"s_steps": 2, "tau": 1.0, "weight_decay": 0.0})
    G, twin = m.parts["G"], copy.deepcopy(m.parts["G"])
    before, rng = weights(G), stream(m)
    with inputs(m.S) as seen:
        got = m.round()
    assert set(m.opts) == {"S"} and set(got) == {"S/kd"}
    for x in seen:
        with torch.no_grad():
            assert torch.allclose(x, twin(torch.randn(8, m.hp.nz, generator=rng)), atol=1e-6)
    m.round()
    assert len(seen) == 2 and not moved(before, G)


def test_a_student_step_of_plain_distillation_is_sgd_by_hand():
    """Two steps of SGD with momentum 0.9 and decay, at half of a cosine: rate 0.05 at progress 0.5."""
    m = toy_method("untrained", {"s_steps": 2, "tau": 1.0})
    twin = copy.deepcopy(m.S)
    before = weights(twin)
    with inputs(m.S) as x:
        m.round()
    speed = [torch.zeros_like(p) for p in before]
    for batch in x:
        grads = gradients(kl(m.T(batch), twin(batch)), twin)
        with torch.no_grad():
            for p, v, g in zip(twin.parameters(), speed, grads, strict=True):
                v.mul_(0.9).add_(g + 5e-4 * p)
                p -= 0.05 * v
    assert close_moves(before, weights(m.S), weights(twin))


def test_every_weight_off_is_refused_in_words():
    m = toy_method("cpsc", {"ikd": 0, "eta": 0})
    with pytest.raises(DfkdError, match="nothing to minimise"):
        m.distill()
