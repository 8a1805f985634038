"""FastDFKD: inner steps, the three meta-steps by an independent Adam, statistics with momentum, the reset."""

import pytest
import torch

from harness.trials.checkpoint import restore, state_of
from harness.trials.toy import toy_method
from tests.methods.by_hand import (
    Adam,
    bn_inputs,
    ce,
    close_moves,
    cropped,
    kl,
    moments,
    moved,
    stream,
    weights,
)

BETAS = (0.5, 0.999)


def _method(**settings):
    return toy_method("fast", {"g_steps": 3, "s_steps": 1} | settings)


def _watch(m):
    """Of every inner step: parameters of what is adapted before it, their gradients, and z with its."""
    seen, step_I = [], m.step_I
    adapted = m.parts.get("adapted", m.parts["G"])

    def step(terms):
        z = m.opts["images"].param_groups[1]["params"][0]
        before, z_before = weights(adapted), z.detach().clone()
        got = step_I(terms)
        grads = [p.grad.clone() for p in adapted.parameters()]
        seen.append((before, grads, z_before, z.grad.clone()))
        return got

    m.step_I = step
    return seen


def _sum(gradients):
    return [sum(parts) for parts in zip(*gradients, strict=True)]


# --- inner steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("meta", ["none", "reptile", "fomaml"])
def test_inner_steps_adapt_a_copy_and_fresh_noise_by_an_adam_that_is_new(meta):
    m = _method(meta=meta)
    adapted = m.parts["G" if meta == "none" else "adapted"]
    for _ in range(2):  # in the second round nothing of the first is remembered
        start = weights(m.parts["G"])
        rng = stream(m)
        torch.randint(3, (8,), generator=rng)  # labels
        z = torch.randn(8, m.hp.nz, generator=rng)
        seen = _watch(m)
        m.synthesize()
        m.__dict__.pop("step_I")
        assert torch.equal(seen[0][2], z)
        assert all(torch.equal(a, b) for a, b in zip(seen[0][0], start, strict=True))
        ours, noise = Adam(start, 2e-3, BETAS), Adam([z], 0.01, BETAS)
        steps = [(ours.step(g), noise.step([g_z])[0]) for _, g, _, g_z in seen]
        for (values, z_after), (before, _, z_before, _) in zip(steps[:-1], seen[1:], strict=True):
            assert close_moves(start, before, values) and torch.allclose(z_after, z_before, atol=1e-5)
        assert close_moves(start, weights(adapted), steps[-1][0])


def test_sequential_has_one_generator_and_no_meta_step():
    m = _method(meta="none")
    assert set(m.parts) == {"G"} and set(m.opts) == {"S"}
    m.round()
    assert "G" not in m.updates and m.updates["images"] == 3


# --- the meta-step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("meta,meta_gradient", [("fomaml", "last"), ("fomaml", "sum"), ("reptile", "last")])
def test_the_meta_step_by_hand(meta, meta_gradient):
    """Two rounds: Adam at k = 3 times the rate of the inner steps, its moments kept."""
    m = _method(meta=meta, meta_gradient=meta_gradient)
    G, seen = m.parts["G"], _watch(m)
    start = weights(G)
    adam = Adam(start, 3 * 2e-3, BETAS)
    for _ in range(2):
        theta = weights(G)
        seen.clear()
        m.synthesize()
        grads = [g for _, g, _, _ in seen]
        if meta == "reptile":
            direction = [a - b for a, b in zip(theta, m.parts["adapted"].parameters(), strict=True)]
        else:
            direction = grads[-1] if meta_gradient == "last" else _sum(grads)
        expected = adam.step(direction)
        assert close_moves(theta, weights(G), expected, rel=0.01)
    assert m.updates["G"] == 2 and m.updates["images"] == 6


def test_the_two_directions_of_fomaml_differ_and_are_one_for_a_single_step():
    def after(**settings):
        m = _method(**settings)
        m.synthesize()
        return torch.cat([p.detach().flatten() for p in m.parts["G"].parameters()])

    assert not torch.equal(after(meta_gradient="last"), after(meta_gradient="sum"))
    one = {"g_steps": 1}
    assert torch.equal(after(meta_gradient="last", **one), after(meta_gradient="sum", **one))


def test_running_statistics_of_the_meta_generator_stay():
    m = _method()
    held = m.parts["G"].bn0.running_mean.clone()
    m.synthesize()
    assert torch.equal(m.parts["G"].bn0.running_mean, held)
    assert not torch.equal(m.parts["adapted"].bn0.running_mean, held)


# --- L_I --------------------------------------------------------------------------------------------


def _statistics(call):
    return [moments(z.detach()) for z in call]


def test_terms_by_hand_with_statistics_remembered_from_the_last_iterate():
    m = _method(g_steps=2, s_steps=0)
    with torch.no_grad():
        m.S.fc.bias.copy_(torch.tensor([0.0, 0.05, 0.0]))
    layers = [layer for layer in m.T.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    memory, caught, terms_I = None, [], m.terms_I

    def watch(x, y):
        rng = stream(m)
        terms = terms_I(x, y)
        caught.append((x.detach(), y, rng, {k: v.item() for k, v in terms.items()}))
        return terms

    m.terms_I = watch
    for _ in range(3):
        caught.clear()
        with bn_inputs(m.T) as calls:
            m.synthesize()
        assert len(calls) == len(caught) == 2
        for call, (x, y, rng, got) in zip(calls, caught, strict=True):
            bn = 0.0
            for i, (layer, (mean, var)) in enumerate(zip(layers, _statistics(call), strict=True)):
                if memory is not None:
                    mean, var = 0.1 * mean + 0.9 * memory[i][0], 0.1 * var + 0.9 * memory[i][1]
                bn += (layer.running_mean - mean).norm() + (layer.running_var - var).norm()
            m.S.eval()
            with torch.no_grad():
                view = cropped(x, 1, rng)
                t, s = m.T(view), m.S(view)
            m.S.train()
            agree = t.argmax(1) == s.argmax(1)
            adv = 1.1 * kl(t[agree], s[agree]).item() * agree.float().mean().item() if agree.any() else 0.0
            assert got["bn"] == pytest.approx(10 * bn.item(), rel=1e-3)
            assert got["oh"] == pytest.approx(0.4 * ce(t, y).item(), rel=1e-3)
            assert got["adv"] == pytest.approx(-adv, rel=1e-3, abs=1e-6)
        new = _statistics(calls[-1])  # the last iterate's, once a round
        memory = (
            new
            if memory is None
            else [
                tuple(0.9 * a + 0.1 * b for a, b in zip(old, now, strict=True))
                for old, now in zip(memory, new, strict=True)
            ]
        )


# --- late and early ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form,mean", [("proper", 1.0), ("released", 0.0), ("off", None)])
def test_the_first_layer_is_drawn_anew_once_late_in_the_run(form, mean):
    m = _method(reset_l0=form)
    G, clock = m.parts["G"], m.problem.clock
    clock.progress = 0.599
    before = weights(G)
    m.begin(m.ask(8))
    assert not moved(before, G)
    clock.progress = 0.6
    conv = G.conv1.weight.detach().clone()
    m.begin(m.ask(8))
    if form == "off":
        assert not moved(before, G)
        return
    assert torch.equal(G.conv1.weight, conv)
    w, scale = G.linear.weight, G.bn0.weight
    # 8 x 512 and 128 draws; five standard deviations of their mean and of their deviation
    assert w.std().item() == pytest.approx(0.02, rel=0.06) and abs(w.mean().item()) < 0.0016
    assert scale.mean().item() == pytest.approx(mean, abs=0.009)
    assert scale.std().item() == pytest.approx(0.02, rel=0.32)
    assert (G.linear.bias == 0).all() and (G.bn0.bias == 0).all()
    assert torch.equal(m.parts["adapted"].linear.weight, w)  # what is adapted is the new layer
    after = weights(G)
    clock.progress = 1.0
    m.begin(m.ask(8))
    assert not moved(after, G)


def test_a_resumed_run_does_not_draw_the_first_layer_again():
    m, again = _method(), _method()
    m.problem.clock.progress = again.problem.clock.progress = 0.8
    m.round()
    restore(again, state_of(m))
    before = weights(again.parts["G"])
    again.begin(again.ask(8))
    assert not moved(before, again.parts["G"])
