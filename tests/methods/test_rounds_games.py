"""One round of DAFL, DFAD and DFQ against their equations; a game against the wrong rival."""

import copy
import math

import pytest
import torch

from harness.errors import DfkdError
from harness.trials.toy import toy_method
from methods.shared.student import unmoved
from tests.methods.by_hand import (
    Adam,
    balance,
    bns,
    ce,
    close_moves,
    gradients,
    inputs,
    kl,
    moved,
    stream,
    terms_are,
    weights,
)


def _first(m):
    """The first batch that G will make, and what T (with features) and S will say to it."""
    z = torch.randn(8, m.hp.nz, generator=stream(m))
    m.S.train(m.hp.student_bn == "train")
    with torch.no_grad(), unmoved(m.S), unmoved(m.parts["G"]):
        x = m.parts["G"](z)
        t, s = m.T(x, taps=("h",)), m.S(x)
    m.S.train()
    return x, t, s


# --- DAFL -------------------------------------------------------------------------------------------


def test_dafl_round_is_its_equation_on_one_batch():
    m = toy_method("dafl")
    _, t, s = _first(m)
    p = t.logits.softmax(1)
    with inputs(m.S) as seen, inputs(m.T) as asked:
        got = m.round()
    assert len(seen) == len(asked) == 1 and torch.equal(seen[0], asked[0])
    assert got["G/oh"].item() == pytest.approx(-0.05 * p.max(1).values.log().mean().item(), rel=1e-4)
    assert got["G/a"].item() == pytest.approx(-0.01 * t.h.abs().mean().item(), rel=1e-4)
    assert got["G/ie"].item() == pytest.approx(5 * balance(t.logits).item() / math.log(10), rel=1e-4)
    assert got["S/kd"].item() == pytest.approx(kl(t.logits, s).item(), rel=1e-4)


def test_dafl_as_datafree_runs_it_is_its_equation_on_batches_of_their_own():
    m = toy_method("dafl", {"protocol": "datafree", "g_steps": 1, "s_steps": 1})
    assert (m.opts["G"].param_groups[0]["lr"], m.opts["G"].param_groups[0]["betas"]) == (1e-3, (0.5, 0.999))
    assert m.opts["S"].param_groups[0]["lr"] == pytest.approx(0.05)  # half of the cosine
    _, t, _ = _first(m)
    p, rng = t.logits.softmax(1), stream(m)
    torch.randn(8, m.hp.nz, generator=rng)  # the batch of G's step
    with inputs(m.S) as seen:
        got = m.synthesize()
        G, S = copy.deepcopy(m.parts["G"]).eval(), copy.deepcopy(m.S)  # G in eval mode while S learns
        second = m.distill()
    assert got["oh"].item() == pytest.approx(-p.max(1).values.log().mean().item(), rel=1e-4)
    assert got["a"].item() == pytest.approx(-0.001 * t.h.abs().mean().item(), rel=1e-4)
    assert got["ie"].item() == pytest.approx(20 * balance(t.logits).item(), rel=1e-4)
    with torch.no_grad():
        x = G(torch.randn(8, m.hp.nz, generator=rng))
        assert len(seen) == 1 and torch.allclose(seen[0], x, atol=1e-6)
        assert second["kd"].item() == pytest.approx(kl(m.T(x), S(x)).item(), rel=1e-4)


def test_dafl_refuses_a_shared_batch_with_more_steps():
    with pytest.raises(DfkdError, match="shared_batch"):
        toy_method("dafl", {"s_steps": 2})
    assert toy_method("dafl", {"s_steps": 2, "shared_batch": False}).round()


# --- DFAD -------------------------------------------------------------------------------------------


def test_dfad_plays_one_distance_from_both_sides():
    m = toy_method("dfad", {"g_steps": 1, "s_steps": 1})
    _, t, s = _first(m)
    assert m.synthesize()["l1"].item() == pytest.approx(-(s - t.logits).abs().mean().item(), rel=1e-4)
    _, t, s = _first(m)
    assert m.distill()["l1"].item() == pytest.approx((s - t.logits).abs().mean().item(), rel=1e-4)


def test_dfad_generator_climbs_by_adam():
    m, twin = (toy_method("dfad", {"g_steps": 2, "protocol": p}) for p in ("datafree", "datafree"))
    before, rng = weights(twin.parts["G"]), stream(twin)
    adam, S = Adam(before, 1e-3, (0.5, 0.999)), twin.S.eval()  # the student stands still in eval mode
    for _ in range(2):
        x = twin.parts["G"](torch.randn(8, twin.hp.nz, generator=rng))
        grads = gradients(-(S(x) - twin.T(x)).abs().mean(), twin.parts["G"])
        with torch.no_grad():
            for p, v in zip(twin.parts["G"].parameters(), adam.step(grads), strict=True):
                p.copy_(v)
    running = m.S.bn1.running_mean.clone()
    m.synthesize()
    assert close_moves(before, weights(m.parts["G"]), weights(twin.parts["G"]), rel=0.05)
    assert torch.equal(running, m.S.bn1.running_mean)


# --- DFQ --------------------------------------------------------------------------------------------


def test_dfq_round_is_its_equation():
    m = toy_method("dfq", {"g_steps": 1, "s_steps": 1})
    x, t, s = _first(m)
    expected = {
        "bn": bns(m.T, x),
        "oh": ce(t.logits, t.logits.argmax(1)),
        "kl": -kl(t.logits, s),
        "balance": 20 * balance(t.logits),
    }
    running = m.S.bn1.running_mean.clone()
    terms_are(expected, m.synthesize())
    assert torch.equal(running, m.S.bn1.running_mean)  # student_bn=eval
    G, rng = copy.deepcopy(m.parts["G"]).eval(), stream(m)
    S = copy.deepcopy(m.S).train()
    with torch.no_grad():
        x = G(torch.randn(8, m.hp.nz, generator=rng))
        lesson = kl(m.T(x), S(x)).item()
    assert m.distill()["kd"].item() == pytest.approx(lesson, rel=1e-4)  # tau = 1, G in eval mode


# --- the teacher as rival: Fast-Datafree's defect ---------------------------------------------------


@pytest.mark.parametrize("protocol", ["authors", "datafree"])
def test_dfad_against_the_teacher_never_moves_its_generator(protocol):
    m = toy_method("dfad", {"rival": "teacher", "protocol": protocol, "g_steps": 2})
    before = weights(m.parts["G"])
    assert m.synthesize()["l1"].item() == 0.0
    assert all((p.grad == 0).all() for p in m.parts["G"].parameters())
    assert not moved(before, m.parts["G"])
    assert m.updates["G"] == 2 and m.problem.compute.meter.passes.get("S") is None
    assert m.distill()["l1"] > 0


def test_zskt_against_the_teacher_has_rounding_noise_for_a_gradient():
    def steepness(rival):
        m = toy_method("zskt", {"rival": rival, "g_steps": 1, "max_norm": 0.0})
        term = m.synthesize()["kl"].item()
        return term, max(p.grad.abs().max().item() for p in m.parts["G"].parameters())

    (fair, slope), (own, noise) = steepness("student"), steepness("teacher")
    assert abs(own) < 1e-6 < abs(fair)
    assert noise < 1e-4 * slope


def test_dfq_against_the_teacher_is_its_priors_alone():
    def grads(**settings):
        m = toy_method("dfq", {"g_steps": 1, **settings})
        m.synthesize()
        return torch.cat([p.grad.flatten() for p in m.parts["G"].parameters()])

    inert, alone, fair = grads(rival="teacher"), grads(adv=0.0), grads()
    assert (inert - alone).norm() < 1e-4 * alone.norm()
    assert (fair - alone).norm() > 100 * (inert - alone).norm()
