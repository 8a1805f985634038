"""CPSC-DFKD: its round worked against the equations, and its switches."""

import pytest
import torch
import torch.nn.functional as F

from harness.trials.toy import toy_method
from methods.shared.student import unmoved
from tests.methods.by_hand import bns, ce, gradients, kl, on, stream, terms_are


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
    rng = stream(m)
    z, y = torch.randn(8, hp.nz, generator=rng), torch.randint(3, (8,), generator=rng)
    with unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](z, y).detach()
        t, s = m.T(x, taps=("h",)), m.S(x, taps=("h",))
    h_s = m.parts["adapter"](F.normalize(s.h, dim=1))
    if fidelity == "corrected":
        assert torch.allclose(h_s.norm(dim=1), torch.ones(8), atol=1e-5)
    h = torch.cat([h_s, F.normalize(t.h, dim=1)])
    expected = {
        "kl": -kl(t.logits, s.logits),
        "l2": -hp.alpha * ((s.logits - t.logits) ** 2).mean(),
        "bn": hp.beta * bns(m.T, x),
        "scl": hp.gamma * _scl(h, y.repeat(2), hp.scl_tau),
        "ce": hp.eta * ce(t.logits.softmax(1) if fidelity == "released" else t.logits, y),
    }
    terms_are(expected, m.synthesize(), rel=2e-5)


def test_cpsc_generator_is_told_kl_through_both_and_l2_through_the_student_alone():
    m, twin = (toy_method("cpsc", {"g_steps": 1}) for _ in range(2))
    rng = stream(twin)
    z, y = torch.randn(8, twin.hp.nz, generator=rng), torch.randint(3, (8,), generator=rng)
    x = twin.parts["G"](z, y)
    prior = bns(twin.T, x)
    t, s = twin.T(x, taps=("h",)), twin.S(x, taps=("h",))
    h_s = twin.parts["adapter"](F.normalize(s.h, dim=1))
    contrast = _scl(torch.cat([h_s, F.normalize(t.h, dim=1)]), y.repeat(2), 0.07)
    distance = kl(t.logits, s.logits) + 5 * ((s.logits - t.logits.detach()) ** 2).mean()
    expected = gradients(-distance + prior + 0.7 * contrast + 0.7 * ce(t.logits, y), twin.parts["G"])
    m.synthesize()
    norm = sum(g.pow(2).sum() for g in expected).sqrt()
    for p, g in zip(m.parts["G"].parameters(), expected, strict=True):
        assert (p.grad - g).norm() < 1e-4 * norm


def test_cpsc_student_step_is_its_equation():
    m = toy_method("cpsc", {"s_steps": 1})
    rng = stream(m)
    z, y = torch.randn(8, m.hp.nz, generator=rng), torch.randint(3, (8,), generator=rng)
    with torch.no_grad(), unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](z, y)
        t, s = m.T(x), m.S(x)
    got = {k: v for k, v in m.distill().items() if k != "adapter"}
    terms_are({"kl": kl(t, s), "l2": 5 * ((s - t) ** 2).mean(), "ce": 0.7 * ce(s, y)}, got)


@pytest.mark.parametrize("classes", [3, 10])
def test_cpsc_log_forms_only_for_ten_classes(classes):
    hp = {"l2": "log_if_10", "g_steps": 1, "s_steps": 1}
    m = on("cpsc", hp, classes=tuple(map(str, range(classes))))
    rng = stream(m)
    z, y = torch.randn(8, m.hp.nz, generator=rng), torch.randint(classes, (8,), generator=rng)
    with torch.no_grad(), unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](z, y)
        squares = (m.S(x) - m.T(x)) ** 2
    plain = squares.mean()
    G, S = (plain.log(), squares.sum().sqrt().log()) if classes == 10 else (plain, plain)
    assert m.synthesize()["l2"].item() == pytest.approx(-5 * G.item(), rel=1e-4)
    m = on("cpsc", hp, classes=tuple(map(str, range(classes))))
    assert m.distill()["l2"].item() == pytest.approx(5 * S.item(), rel=1e-4)


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


@pytest.mark.parametrize("layers", ["full", "drop3", "0+1", "none"])
def test_cpsc_runs_with_any_choice_of_categorical_norms(layers):
    assert toy_method("cpsc", {"cfe_layers": layers, "cfe_embedding_dim": 4}).round()
