"""Conformance of every registered method, and rounds worked against the equations."""

import math

import pytest
import torch
import torch.nn.functional as F

from harness import check, registry
from harness.check import toy_method
from harness.config import resolve
from harness.errors import DfkdError, Diverged
from methods.generative import unmoved

METHODS = registry.methods.available()


@pytest.mark.parametrize("rule", check.CHECKS, ids=lambda r: r.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_conformance(name, rule):
    rule(name)


def _kl(t, s):
    p = t.softmax(1)
    return (p * (p.log() - s.softmax(1).log())).sum(1).mean()


def _bn(net, x):
    """BNS with hooks on the layers' inputs: independent of our taps."""
    seen = []

    def hook(layer, args):
        z = args[0]
        var = z.transpose(0, 1).flatten(1).var(1, unbiased=False)
        mean = z.mean((0, 2, 3))
        seen.append((layer.running_var - var).norm() + (layer.running_mean - mean).norm())

    layers = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    handles = [m.register_forward_pre_hook(hook) for m in layers]
    net(x)
    for h in handles:
        h.remove()
    return sum(seen)


def _scl(h, y, tau):
    total = 0.0
    for i in range(len(h)):
        others = [j for j in range(len(h)) if j != i]
        sims = torch.stack([h[i] @ h[j] / tau for j in others])
        same = [k for k, j in enumerate(others) if y[j] == y[i]]
        total = total - (sims[same] - sims.logsumexp(0)).mean()
    return total / len(h)


@pytest.mark.parametrize("fidelity", ["corrected", "released"])
def test_cpsc_round_is_its_equation(fidelity):
    m = toy_method("cpsc", {"fidelity": fidelity, "g_steps": 1, "s_steps": 1, "order": "G_first"})
    hp = m.hp
    state = m.problem.rng.get_state()
    rng = torch.Generator()
    rng.set_state(state)
    z, y = torch.randn(8, hp.nz, generator=rng), torch.randint(3, (8,), generator=rng)
    with unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](z, y).detach()
        t, s = m.T(x, taps=("h",)), m.S(x, taps=("h",))
    h_s = m.parts["adapter"](F.normalize(s.h, dim=1))
    if fidelity == "corrected":
        assert torch.allclose(h_s.norm(dim=1), torch.ones(8), atol=1e-5)
    h = torch.cat([h_s, F.normalize(t.h, dim=1)])

    def ce(u):
        u = u.softmax(1) if fidelity == "released" else u
        return -u.log_softmax(1)[torch.arange(8), y].mean()

    expected = {
        "kl": -_kl(t.logits, s.logits),
        "l2": -hp.alpha * ((s.logits - t.logits) ** 2).mean(),
        "bn": hp.beta * _bn(m.T, x),
        "scl": hp.gamma * _scl(h, y.repeat(2), hp.scl_tau),
        "ce": hp.eta * ce(t.logits),
    }
    got = m.round()
    for k, v in expected.items():
        assert got[f"G/{k}"].item() == pytest.approx(v.item(), rel=2e-5, abs=1e-6), k


def test_cpsc_student_step_is_its_equation():
    m = toy_method("cpsc", {"s_steps": 1})
    rng = torch.Generator()
    rng.set_state(m.problem.rng.get_state())
    z, y = torch.randn(8, m.hp.nz, generator=rng), torch.randint(3, (8,), generator=rng)
    with torch.no_grad(), unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](z, y)
        t, s = m.T(x), m.S(x)
    got = m.distill()
    assert got["kl"].item() == pytest.approx(_kl(t, s).item(), rel=1e-4)
    assert got["l2"].item() == pytest.approx(5 * ((s - t) ** 2).mean().item(), rel=1e-4)
    assert got["ce"].item() == pytest.approx(0.7 * F.cross_entropy(s, y).item(), rel=1e-4)


def test_cpsc_log_forms_only_for_ten_classes():
    assert not toy_method("cpsc", {"l2": "log_if_10"})._log


def test_cpsc_rebuilt_adam_takes_sign_steps():
    m = toy_method("cpsc", {"g_optimizer": "rebuilt", "g_steps": 2})
    before = m.parts["G"].conv1.weight.detach().clone()
    m.synthesize()
    moved = (m.parts["G"].conv1.weight - before).abs() / m.hp.lr_g
    # two fresh steps, each lr * sign(g): every weight moved by 0 or 2 rates
    assert ((moved < 0.01) | ((moved - 2).abs() < 0.01)).float().mean() > 0.95


def test_cpsc_adapter_learns_only_when_corrected():
    for adapter, moves in (("trained", True), ("frozen", False), ("decay", True)):
        m = toy_method("cpsc", {"adapter": adapter})
        before = m.parts["adapter"].lin1.weight.detach().clone()
        m.round()
        assert torch.equal(before, m.parts["adapter"].lin1.weight) != moves, adapter


def test_cpsc_adapter_decays_by_weight_decay_alone():
    m = toy_method("cpsc", {"adapter": "decay", "s_steps": 1, "g_steps": 1})
    before = m.parts["adapter"].lin1.weight.detach().clone()
    m.distill()
    assert torch.allclose(m.parts["adapter"].lin1.weight, before * (1 - 0.1 * 5e-4), rtol=1e-6)


def test_cpsc_has_no_adapter_without_contrast_or_need():
    assert "adapter" not in toy_method("cpsc", {"gamma": 0.0}).parts


def test_cpsc_warms_up_then_follows_a_cosine():
    m = toy_method("cpsc")
    factor = m.schedules[0].factor
    # the authors' epochs: 0.01 e up to 10, then 0.05 (1 + cos(pi (e - 10) / 600))
    assert 0.1 * factor(5 / 600) == pytest.approx(0.05)
    assert 0.1 * factor(10 / 600) == pytest.approx(0.1)
    assert factor(1.0) == pytest.approx(0.0, abs=1e-12)
    assert 0.1 * factor(305 / 600) == pytest.approx(0.05, abs=1e-3)


def test_dafl_round_is_its_equation_on_one_batch():
    m = toy_method("dafl")
    rng = torch.Generator()
    rng.set_state(m.problem.rng.get_state())
    z = torch.randn(8, m.hp.nz, generator=rng)
    with torch.no_grad(), unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](z)
        t, s = m.T(x, taps=("h",)), m.S(x)
    p = t.logits.softmax(1)
    got = m.round()
    assert got["G/oh"].item() == pytest.approx(-0.05 * p.max(1).values.log().mean().item(), rel=1e-4)
    assert got["G/a"].item() == pytest.approx(-0.01 * t.h.abs().mean().item(), rel=1e-4)
    entropy = (p.mean(0) * p.mean(0).log() / math.log(10)).sum()
    assert got["G/ie"].item() == pytest.approx(5 * entropy.item(), rel=1e-4)
    assert got["S/kl"].item() == pytest.approx(_kl(t.logits, s).item(), rel=1e-4)


def test_dafl_refuses_a_shared_batch_with_more_steps():
    with pytest.raises(DfkdError, match="shared_batch"):
        toy_method("dafl", {"s_steps": 2})
    assert toy_method("dafl", {"s_steps": 2, "shared_batch": False}).round()


def test_dfad_plays_one_distance_from_both_sides():
    m = toy_method("dfad", {"g_steps": 1, "s_steps": 1})
    rng = torch.Generator()
    rng.set_state(m.problem.rng.get_state())
    with torch.no_grad(), unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](torch.randn(8, m.hp.nz, generator=rng))
        gap = (m.S(x) - m.T(x)).abs().mean()
    assert m.synthesize()["l1"].item() == pytest.approx(-gap.item(), rel=1e-4)


def test_kd_and_scratch_are_their_equations():
    for name in ("scratch", "kd"):
        m, twin = toy_method(name), toy_method(name)
        x, y = twin.images.batch(8)
        with torch.no_grad():
            s, t = twin.S(x), twin.T(x)
        ce = F.cross_entropy(s, y).item()
        got = m.round()
        if name == "scratch":
            assert got["S/ce"].item() == pytest.approx(ce, rel=1e-4)
        else:
            assert got["S/ce"].item() == pytest.approx(0.1 * ce, rel=1e-4)
            assert got["S/kd"].item() == pytest.approx(0.9 * 16 * _kl(t / 4, s / 4).item(), rel=1e-3)


def test_a_nan_names_its_term():
    m = toy_method("dfad")
    with torch.no_grad():
        m.S.fc.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"'G'.*round 3.*l1"):
        m.synthesize()


def test_every_weight_off_is_refused_in_words():
    m = toy_method("cpsc", {"ikd": 0, "eta": 0})
    with pytest.raises(DfkdError, match="nothing to minimise"):
        m.distill()


def test_released_presets_turn_every_switch_back():
    cls = registry.methods.get("cpsc")
    got = resolve("cpsc", cls.HP, cls.PRESETS, {"fidelity": "released"})
    assert (got["g_optimizer"], got["ce"], got["adapter"], got["order"]) == (
        "rebuilt",
        "softmax",
        "frozen",
        "G_first",
    )
    kept = resolve("cpsc", cls.HP, cls.PRESETS, {"fidelity": "released", "ce": "logits"})
    assert kept["ce"] == "logits"


def test_cpsc_is_refused_for_a_teacher_without_batchnorm():
    from harness.check import STUDENT, TOY
    from harness.nets.base import spec

    cls = registry.methods.get("cpsc")
    hp = cls.HP()
    reason = cls.skip(hp, TOY, spec("lenet5", TOY), spec(STUDENT, TOY))
    assert reason and "beta=0" in reason
    assert cls.skip(cls.HP(beta=0.0), TOY, spec("lenet5", TOY), spec(STUDENT, TOY)) is None


@pytest.mark.parametrize("layers", ["full", "drop3", "0+1", "none"])
def test_cpsc_runs_with_any_choice_of_categorical_norms(layers):
    assert toy_method("cpsc", {"cfe_layers": layers, "cfe_embedding_dim": 4}).round()
