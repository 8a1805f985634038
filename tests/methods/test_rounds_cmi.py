"""One round of CMI against its equations: generator drawn anew, contrast with a bank, a head."""

import math

import pytest
import torch
import torch.nn.functional as F

from harness.tasks import views
from harness.trials.toy import toy_method
from tests.methods.by_hand import (
    Adam,
    bn_inputs,
    bns,
    ce,
    close_moves,
    cropped,
    gradients,
    on,
    rows_of,
    stream,
    terms_are,
    weights,
)

ONE = {"g_steps": 1, "s_steps": 1}


def _features(net, x):
    """Spatial means of the inputs of all BatchNorm layers, by hooks."""
    with bn_inputs(net) as calls:
        net(x)
    return torch.cat([z.mean((2, 3)) for z in calls[0]], dim=1)


def _instance(rows, columns, tau, current):
    """-log of each row's own share of the similarities; this batch and the bank apart, added."""
    shares = (rows @ columns.T / tau).softmax(1).diag()
    parts = shares[:current], shares[current:]
    return sum(-p.log().mean() for p in parts if len(p))


def _terms(m, x, y, rng, bank=None):
    """L_I on a rendered batch, and the contrast's graph to the head; draws as a round does."""
    whole = cropped(x, 1, rng)
    m.S.eval()
    t, s = m.T(whole), m.S(whole)
    m.S.train()
    local = views.zoom(x, 0.25, rng)
    near, far = _features(m.T, local), _features(m.T, whole)
    n = len(x)
    if bank:
        order = torch.randperm(len(bank["a"]), generator=rng)[: m.hp.bank_draw]
        near, far = torch.cat([near, bank["a"][order]]), torch.cat([far, bank["b"][order]])
    head = m.parts["head"]
    p, q = t.softmax(1), s.softmax(1)
    agree = (t.argmax(1) == s.argmax(1)).float()
    return {
        "oh": ce(t, y),
        "bn": bns(m.T, whole),
        "adv": -0.5 * ((p * (p / q).log()).sum(1) * agree).mean(),
        "cr": 0.8 * _instance(head(near), head(far).detach(), 0.1, n),
    }


def _begun(m):
    """The rendered batch of the first iteration, its labels, and the stream as the terms will meet it."""
    y = m.ask(8)
    render = m.begin(y)
    return render().detach(), y, stream(m)


def _agreeing(**settings):
    """A method whose S agrees with T on some images and not on others."""
    m = toy_method("cmi", ONE | settings)
    with torch.no_grad():
        m.S.fc.bias.copy_(torch.tensor([0.0, 0.05, 0.0]))
    return m


def test_a_first_round_is_its_equation():
    m, twin = _agreeing(), _agreeing()
    expected = _terms(twin, *_begun(twin))
    assert expected["adv"] < 0
    terms_are(expected, m.synthesize(), rel=1e-3)


@pytest.mark.parametrize("bank_draw", [5, 4096])
def test_a_second_round_is_contrasted_with_the_bank(bank_draw):
    m, twin = (_agreeing(bank_draw=bank_draw) for _ in range(2))
    for method in (m, twin):
        method.round()
    assert len(m.bank) == 8
    bank = rows_of(twin.bank)
    x, y, rng = _begun(twin)
    expected = _terms(twin, x, y, rng, bank)
    got = m.synthesize()
    assert got["cr"].item() == pytest.approx(expected["cr"].item(), rel=1e-3)
    assert got["bn"].item() == pytest.approx(expected["bn"].item(), rel=1e-3)
    assert len(m.bank) == 16


def test_without_draws_the_bank_is_not_looked_at():
    m, twin = (toy_method("cmi", {**ONE, "bank_draw": 0}) for _ in range(2))
    for method in (m, twin):
        method.round()
    x, y, rng = _begun(twin)
    assert m.synthesize()["cr"].item() == pytest.approx(_terms(twin, x, y, rng)["cr"].item(), rel=1e-3)


def test_the_head_is_stepped_and_columns_are_constants_to_it():
    m, twin = (toy_method("cmi", ONE) for _ in range(2))
    x, y, rng = _begun(twin)
    loss = _terms(twin, x, y, rng)["cr"]
    head = twin.parts["head"]
    before, grads = weights(head), gradients(loss, head)
    expected = Adam(before, 1e-3).step(grads)  # its own Adam, default betas
    m.synthesize()
    for p, g in zip(m.parts["head"].parameters(), grads, strict=True):
        assert torch.allclose(p.grad, g, atol=1e-3 * g.abs().max())
    assert close_moves(before, weights(m.parts["head"]), expected, rel=0.1)
    m.synthesize()
    assert m.opts["head"].state_dict()["state"][0]["step"].item() == 2  # its Adam is kept over rounds


def test_a_round_draws_the_generator_anew():
    m = toy_method("cmi", ONE)
    G = m.parts["G"]
    drawn = []
    for _ in range(2):
        m.round()
        assert not torch.equal(G.bn0.running_mean, torch.zeros(128))
        m.begin(m.ask(8))
        drawn.append(weights(G))
        assert m.opts["images"].state_dict()["state"] == {}
        for w in (G.linear.weight, G.conv1.weight, G.conv2.weight):
            # the deviation of n draws is known to 1 / sqrt(2 n) of itself
            assert w.std().item() == pytest.approx(0.02, rel=5 / math.sqrt(2 * w.numel()))
            assert abs(w.mean().item()) < 5 * 0.02 / math.sqrt(w.numel())
        scales = torch.cat([bn.weight for bn in (G.bn0, G.bn1, G.bn2)])
        assert scales.mean().item() == pytest.approx(1.0, abs=5 * 0.02 / math.sqrt(320))
        assert scales.std().item() == pytest.approx(0.02, rel=5 / math.sqrt(640))
        for layer in (G.linear, G.conv1, G.conv2, G.conv3, G.bn0, G.bn1, G.bn2):
            assert (layer.bias == 0).all()
        assert torch.equal(G.bn0.running_mean, torch.zeros(128))
        assert torch.equal(G.bn0.running_var, torch.ones(128))
        del m.opts["images"]
    assert not torch.equal(drawn[0][0], drawn[1][0])


def test_generator_and_noise_are_optimised_together():
    m = toy_method("cmi", ONE)
    m.begin(m.ask(8))
    held = m.opts["images"].param_groups[0]
    assert (held["lr"], held["betas"]) == (1e-3, (0.5, 0.999))
    assert {id(p) for p in m.parts["G"].parameters()} < {id(p) for p in held["params"]}
    z = [p for p in held["params"] if p.shape == (8, m.hp.nz) and p.ndim == 2]
    assert len(z) == 1 and z[0].requires_grad


def test_the_bank_gets_the_features_of_the_images_kept():
    m = toy_method("cmi", ONE | {"g_steps": 2})
    made, caught = m.made, []
    m.made = lambda x, y: (caught.append((x.clone(), stream(m))), made(x, y))
    m.synthesize()
    x, rng = caught[0]
    assert torch.equal(m.pool.column("x"), x)
    with torch.no_grad():
        local = _features(m.T, views.zoom(x, 0.25, rng))
        whole = _features(m.T, cropped(x, 1, rng))
    assert torch.allclose(m.bank.column("a"), local, atol=1e-5)
    assert torch.allclose(m.bank.column("b"), whole, atol=1e-5)


def test_features_of_maps_are_their_spatial_means():
    m = toy_method("cmi", ONE | {"features": "maps"})
    m.synthesize()
    # the stages of WRN-16-2 have 32 + 64 + 128 channels
    assert m.bank.column("a").shape == (8, 224)
    caught, made = [], m.made
    m.made = lambda x, y: (caught.append((x.clone(), stream(m))), made(x, y))
    m.synthesize()
    x, rng = caught[0]
    groups = (m.T.block1, m.T.block2, m.T.block3)
    outs = []
    handles = [
        g.register_forward_hook(lambda *a: outs.append(F.adaptive_avg_pool2d(a[2], 1))) for g in groups
    ]
    with torch.no_grad():
        m.T(views.zoom(x, 0.25, rng))
    for h in handles:
        h.remove()
    assert torch.allclose(m.bank.column("a")[8:], torch.cat(outs, 1).flatten(1), atol=1e-5)


def test_where_the_task_bears_it_both_views_are_flipped():
    hp = ONE | {"adv": 0.0}
    m, twin = (on("cmi", hp, augment=frozenset({"pad", "flip"})) for _ in range(2))
    x, _, rng = _begun(twin)

    def mirrored(u):
        drawn = torch.rand(8, generator=rng) < 0.5
        return torch.stack([a.flip(2) if d else a for a, d in zip(u, drawn.tolist(), strict=True)])

    whole = mirrored(cropped(x, 1, rng))
    local = mirrored(views.zoom(x, 0.25, rng))
    head = twin.parts["head"]
    contrast = _instance(head(_features(twin.T, local)), head(_features(twin.T, whole)), 0.1, 8)
    got = m.synthesize()
    assert got["bn"].item() == pytest.approx(bns(twin.T, whole).item(), rel=1e-3)
    assert got["cr"].item() == pytest.approx(0.8 * contrast.item(), rel=1e-3)
