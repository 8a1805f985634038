"""One round of ZSKT against its equations, as the authors run it and as DataFree does."""

import math

import pytest
import torch

from harness.trials.toy import toy_method
from methods.shared.student import unmoved
from tests.methods.by_hand import Adam, attention, close_moves, gradients, inputs, kl, stream, weights

AUTHORS = {"g_steps": 1, "s_steps": 3}
DATAFREE = {"protocol": "datafree", "g_steps": 1, "s_steps": 2}


def _clipped(grads, most):
    norm = math.sqrt(sum(g.pow(2).sum().item() for g in grads))
    return [g * min(1.0, most / (norm + 1e-6)) for g in grads]


def _load(module, values):
    with torch.no_grad():
        for p, v in zip(module.parameters(), values, strict=True):
            p.copy_(v)


def test_a_round_by_hand():
    """One z; one step of G on -KL/K; three of S on what G then renders, KL/K + 250 AT; norms up to 5."""
    m, twin = (toy_method("zskt", AUTHORS) for _ in range(2))
    G, S, T = twin.parts["G"], twin.S, twin.T
    before = weights(G), weights(S)
    z = torch.randn(8, twin.hp.nz, generator=stream(twin))
    x = G(z)
    loss = -kl(T(x), S(x)) / 3
    # both rates at half of their cosine
    _load(G, Adam(before[0], 5e-4).step(_clipped(gradients(loss, G), 5.0)))
    adam = Adam(before[1], 1e-3)
    with torch.no_grad():
        x = G(z)
        t = T(x, taps=("maps",))
    terms = []
    for _ in range(3):
        s = S(x, taps=("maps",))
        pair = kl(t.logits, s.logits) / 3, 250 * sum(map(attention, s.maps, t.maps))
        terms.append([v.item() for v in pair])
        _load(S, adam.step(_clipped(gradients(sum(pair), S), 5.0)))
    got = m.round()
    assert got["G/kl"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert got["S/kl"].item() == pytest.approx(sum(t[0] for t in terms) / 3, rel=1e-2)
    assert got["S/at"].item() == pytest.approx(sum(t[1] for t in terms) / 3, rel=1e-2)
    assert close_moves(before[0], weights(m.parts["G"]), weights(G), rel=0.02)
    assert close_moves(before[1], weights(m.S), weights(S), rel=0.05)


def test_the_student_s_lessons_are_one_rendering_of_the_round_s_z():
    m = toy_method("zskt", AUTHORS)
    with inputs(m.S) as seen, inputs(m.T) as asked, inputs(m.parts["G"]) as zs:
        m.round()
        first = zs[0]
        assert len(zs) == 2 and torch.equal(zs[0], zs[1])
        assert len(seen) == 4 and len(asked) == 2 and torch.equal(asked[1], seen[1])
        assert all(torch.equal(seen[1], x) for x in seen[2:]) and not torch.equal(seen[0], seen[1])
        m.round()
    assert not torch.equal(zs[2], first) and torch.equal(zs[2], zs[3])


def test_a_lesson_without_a_generator_step_draws_a_z():
    m = toy_method("zskt", {"g_steps": 0, "s_steps": 2})
    with inputs(m.S) as seen:
        m.round()
    assert len(seen) == 2 and torch.equal(seen[0], seen[1])


def test_datafree_draws_fresh_batches_with_s_in_eval_mode_and_no_attention():
    m = toy_method("zskt", DATAFREE | {"nz": 8})
    zs = torch.Generator().set_state(m.problem.rng.get_state())
    drawn = [torch.randn(8, m.hp.nz, generator=zs) for _ in range(3)]
    with torch.no_grad(), unmoved(m.parts["G"]):
        x = m.parts["G"](drawn[0])
        m.S.eval()
        expected = -kl(m.T(x), m.S(x)).item()  # a batch mean, no 1/K
        m.S.train()
    running = m.S.bn1.running_mean.clone()
    with inputs(m.parts["G"]) as seen:
        got = m.synthesize()
        assert torch.equal(running, m.S.bn1.running_mean)
        assert set(m.distill()) == {"kl"}
    assert got["kl"].item() == pytest.approx(expected, rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(seen, drawn, strict=True))
    assert isinstance(m.opts["S"], torch.optim.SGD)
    adam = m.opts["G"].param_groups[0]
    assert (adam["lr"], adam["betas"]) == (1e-3, (0.5, 0.999))  # constant; S at half of the cosine
    assert m.opts["S"].param_groups[0]["lr"] == pytest.approx(0.05)
    assert m.clip is None


def _norm(module):
    return torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm().item()


def test_gradients_are_clipped_to_five():
    free = toy_method("zskt", {"at": 1e7, "g_steps": 1, "s_steps": 1, "max_norm": 0.0})
    held = toy_method("zskt", {"at": 1e7, "g_steps": 1, "s_steps": 1})
    for m in (free, held):
        m.round()
    assert _norm(free.S) > 50 and _norm(held.S) == pytest.approx(5.0, rel=1e-4)
    ratio = 5 / _norm(free.S)
    for a, b in zip(free.S.parameters(), held.S.parameters(), strict=True):
        assert torch.allclose(a.grad * ratio, b.grad, atol=1e-4, rtol=1e-2)


def test_a_generator_s_gradient_is_clipped_and_a_small_one_is_not():
    norms = []
    for most in (0.0, 1e-3, 1e3):
        m = toy_method("zskt", {"g_steps": 1, "max_norm": most})
        m.synthesize()
        norms.append(_norm(m.parts["G"]))
    assert norms[0] > 1e-3 and norms[1] == pytest.approx(1e-3, rel=1e-2) and norms[2] == norms[0]
