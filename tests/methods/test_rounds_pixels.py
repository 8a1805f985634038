"""One round of DeepInversion and of ADI against their equations, by hooks that know nothing of our taps."""

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from harness.trials.toy import toy_method
from tests.methods.by_hand import Adam, bns, ce, inputs, kl, on, stream, terms_are

#: offsets of up to 2 pixels, and steps so long that the loss does not simply fall
FAR = {"g_steps": 6, "lr_x": 2.0, "jitter": 0.25, "s_steps": 1}


def _pixels(u):
    return u * 0.35 + 0.3  # the toy task's constants


def _tv(u):
    """Down, right and both diagonals, as lists of differences."""
    down, right = u[:, :, 1:] - u[:, :, :-1], u[..., 1:] - u[..., :-1]
    return down, right, u[:, :, 1:, 1:] - u[:, :, :-1, :-1], u[:, :, 1:, :-1] - u[:, :, :-1, 1:]


def _watch(m):
    """(rendered, loss before the step, u after the step) of every iteration."""
    seen, terms_I, step_I = [], m.terms_I, m.step_I

    def terms(x, y):
        found = terms_I(x, y)
        seen.append([x.detach().clone(), sum(found.values()).item()])
        return found

    def step(found):
        got = step_I(found)
        seen[-1].append(m.opts["images"].param_groups[0]["params"][0].detach().clone())
        return got

    m.terms_I, m.step_I = terms, step
    return seen


def _first_view(rng, y, most):
    """Noise in normalised space, rolled by one offset for all."""
    u = torch.randn(len(y), 1, 8, 8, generator=rng)
    dy, dx = torch.randint(-most, most + 1, (2, 1), generator=rng).flatten().tolist()
    return torch.roll(u, (dy, dx), (2, 3))


def test_the_first_iteration_is_its_equation():
    m = toy_method("deepinversion", {"g_steps": 1, "l2": 0.01, "bn_first": 3.0, "jitter": 0.25})
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])  # balanced
    u = _first_view(stream(m), y, 2)
    x = _pixels(u)
    expected = {
        "oh": ce(m.T(x), y),
        "bn": 10 * bns(m.T, x, first=3.0),
        "tv": 2.5e-5 * sum(d.pow(2).sum().sqrt() for d in _tv(u)),
        "l2": 0.01 * u.pow(2).sum().sqrt(),
    }
    terms_are(expected, m.synthesize())
    assert torch.equal(m.pool.column("y"), y)


def test_the_first_iteration_as_datafree_runs_it():
    hp = {"protocol": "datafree", "g_steps": 1}
    m = on("deepinversion", hp, augment=frozenset({"pad", "flip"}))
    rng = stream(m)
    y = torch.randint(3, (8,), generator=rng)
    u = _first_view(rng, y, 1)  # an eighth of 8
    u = u.flip(3) if torch.rand(1, generator=rng) < 0.5 else u
    expected = {
        "oh": ce(m.T(_pixels(u)), y),
        "bn": 10 * bns(m.T, _pixels(u)),
        "tv": 0.001 * sum(d.abs().mean() for d in _tv(u)),
    }
    terms_are(expected, m.synthesize())


def test_a_task_that_bears_no_flip_is_never_mirrored():
    m = toy_method("deepinversion", {"flips": True, "jitter": 0.0})
    x = torch.rand(8, 1, 8, 8)
    assert all(torch.equal(m.view(x), x) for _ in range(10))
    m = on("deepinversion", {"flips": True, "jitter": 0.0}, augment=frozenset({"flip"}))
    assert {torch.equal(m.view(x), x.flip(3)) for _ in range(20)} == {True, False}


@pytest.mark.parametrize("protocol", ["authors", "datafree"])
def test_pixels_are_stepped_by_an_adam_of_their_own(protocol):
    m = toy_method("deepinversion", {"protocol": protocol, "g_steps": 3, "clamp": False})
    seen = _watch(m)
    grads = []
    step_I = m.step_I
    m.step_I = lambda terms: (step_I(terms), grads.append(m._u.grad.clone()))[0]
    for _ in range(2):  # the second round starts anew
        m.synthesize()
        start = (seen[0][0] - 0.3) / 0.35
        # CMI 9e79fa9, datafree/synthesis/deepinversion.py: betas=[0.5, 0.99]
        rate, betas = (0.05, (0.9, 0.999)) if protocol == "authors" else (0.1, (0.5, 0.99))
        adam = Adam([start], rate, betas)
        for (_, _, u), g in zip(seen, grads, strict=True):
            assert torch.allclose(adam.step([g])[0], u, atol=1e-4)
        seen.clear(), grads.clear()


def test_pixels_are_put_back_into_their_range():
    m = toy_method("deepinversion", {**FAR, "clamp": True, "keep": "after"})
    m.synthesize()
    x = m.pool.column("x")
    assert x.min() > -1e-6 and x.max() < 1 + 1e-6
    assert (x.abs() < 1e-6).any() and ((x - 1).abs() < 1e-6).any()
    m = toy_method("deepinversion", {**FAR, "keep": "after"})
    m.synthesize()
    assert m.pool.column("x").min() < -0.1


def test_the_student_s_lesson_is_kd_on_crops_of_the_pool():
    m = toy_method("deepinversion", {"s_steps": 1, "tau": 3.0})
    m.synthesize()
    twin = toy_method("deepinversion").S  # S is as it was
    assert not m.updates.get("S")
    with inputs(m.S) as seen:
        got = m.distill()
    with torch.no_grad():
        expected = 9 * kl(m.T(seen[0]) / 3, twin(seen[0]) / 3)
    assert got["kd"].item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_pool_of_bytes_floors():
    kept = [toy_method("deepinversion", {"pool_dtype": d, "clamp": True}) for d in ("float32", "uint8")]
    for m in kept:
        m.synthesize()
    exact, bytes_ = (m.pool.column("x") for m in kept)
    assert torch.equal(bytes_, (exact * 255).clamp(0, 255).floor().byte())
    x, _ = kept[1].sample(8, None, torch.Generator().manual_seed(0))
    assert x.min() >= 0 and x.max() <= 1 and torch.allclose(x * 255, (x * 255).round(), atol=1e-4)


# --- ADI --------------------------------------------------------------------------------------------


def _compete(m):
    """Softmaxes at temperature 3 of T and S (in eval mode) on the first view."""
    x = _pixels(_first_view(stream(m), torch.arange(8) % 3, 2))
    m.S.eval()
    with torch.no_grad():
        found = [(net(x) / 3).softmax(1).double() for net in (m.T, m.S)]
    m.S.train()
    return found


def test_adi_competes_in_the_divergence_of_jensen_and_shannon():
    m = toy_method("adi", {"g_steps": 1, "jitter": 0.25})
    p, q = _compete(m)
    js = (jensenshannon(p.numpy(), q.numpy(), axis=1, base=None) ** 2).mean()  # base e
    assert m.synthesize()["adv"].item() == pytest.approx(0.2 * (1 - js), rel=1e-4)


def test_adi_as_released_clamps_and_swaps():
    m = toy_method("adi", {"g_steps": 1, "jitter": 0.25, "fidelity": "released", "adv": 1.0})
    with torch.no_grad():
        m.S.fc.weight *= 1000  # so sure that the clamp is met
    p, q = _compete(m)
    assert (q < 0.01).any() and (q > 0.99).any()
    p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
    mid = ((p + q) / 2).clamp(0.01, 0.99)
    js = ((mid * (mid / p).log()).sum(1).mean() + (mid * (mid / q).log()).sum(1).mean()) / 2
    assert m.synthesize()["adv"].item() == pytest.approx(1 - js.item(), rel=1e-4, abs=1e-5)


def test_adi_without_competition_is_deepinversion():
    one, other = toy_method("adi", {"adv": 0.0}), toy_method("deepinversion")
    assert one.round() == other.round()
    assert torch.equal(one.pool.column("x"), other.pool.column("x"))
