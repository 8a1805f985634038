"""Each loss: an example worked by hand, and a law."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import tensor

from methods.shared import losses

# softmax of (ln 1, ln 2, ln 3) is (1, 2, 3) / 6
T = tensor([[math.log(1), math.log(2), math.log(3)]])
UNIFORM = torch.zeros(1, 3)


def _pair(seed, rows=7, classes=5):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=g), torch.randn(rows, classes, generator=g)


log, sqrt, exp = math.log, math.sqrt, math.exp
S2, T2 = tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[0.0, 4.0], [3.0, 1.0]])  # differences 1, -2, 0, 3
H = tensor([[1.0, -2.0], [3.0, 0.0]])
# at temperature 3 their softmaxes are (1/4, 3/4) and (3/4, 1/4), with the mean (1/2, 1/2)
P, Q = 3 * tensor([[0.0, log(3)]]), 3 * tensor([[log(3), 0.0]])
SURE = tensor([[300.0, 0.0]])
Z = 1 + sqrt(2) + sqrt(3)  # at tau 2 the teacher's softmax is (1, sqrt 2, sqrt 3) / Z
# rows a, b of class 0 at a right angle, c of class 1 equal to a; tau 1.
# a: log p(b) = 0 - log(e^0 + e^1); b: log p(a) = 0 - log(e^0 + e^0); c has no positive.
ROWS, CLASSES = tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), tensor([0, 0, 1])
# squares of (1, 2) and (1, 0), their channel mean (1, 2), of length sqrt 5; against (0, 1), of length 1
A, B = tensor([[[[1.0, 2.0]], [[-1.0, 0.0]]]]), tensor([[[[0.0, 7.0]]]])
MAPS = ((1 / sqrt(5)) ** 2 + (2 / sqrt(5) - 1) ** 2) / 2
ENTROPY = sum(x / 6 * log(x / 6) for x in (1, 2, 3))

BY_HAND = {
    # sum p log(p / (1/3)) with p = 1/6, 2/6, 3/6
    "kl": (losses.kl(T, UNIFORM), 1 / 6 * log(0.5) + 3 / 6 * log(1.5)),
    "kl of a shift": (losses.kl(T, T + 5), 0),
    "kl_mean": (losses.kl_mean(T, UNIFORM), (1 / 6 * log(0.5) + 3 / 6 * log(1.5)) / 3),
    "kd": (losses.kd(T, UNIFORM, 2.0), 4 * sum(x / Z * log(3 * x / Z) for x in (1, sqrt(2), sqrt(3)))),
    "kd at tau 1": (losses.kd(T, UNIFORM, 1.0), losses.kl(T, UNIFORM)),
    "l2": (losses.l2(S2, T2), (1 + 4 + 0 + 9) / 4),
    "l1": (losses.l1(S2, T2), (1 + 2 + 0 + 3) / 4),
    "log_mse": (losses.log_mse(S2, T2), log(14 / 4)),
    "log_fro": (losses.log_fro(S2, T2), log(sqrt(14))),
    "ce": (losses.ce(T, tensor([2])), -log(3 / 6)),
    "one_hot": (losses.one_hot(T), -log(1 / 2)),
    "one_hot of a sure one": (losses.one_hot(100 * T), 0),
    "activation": (losses.activation(H), -6 / 4),
    # mean of (1, 2, 3) / 6 and (3, 2, 1) / 6 is uniform: -log K; one sample alone is its own entropy
    "class_balance": (losses.class_balance(torch.cat([T, T.flip(1)])), -log(3)),
    "class_balance of one": (losses.class_balance(T), ENTROPY),
    "class_balance in base 10": (losses.class_balance(T, 10.0), ENTROPY / log(10)),
    "scl": (losses.scl(ROWS, CLASSES, 1.0), (log(1 + math.e) + log(2)) / 2),
    # row 1: t = (1, 2, 3) / 6 and s = (1, 1, 2) / 4 agree on class 2; row 2 disagrees, and counts in B = 2
    "kl_agreeing": (
        losses.kl_agreeing(torch.cat([T, T]), tensor([[0.0, 0.0, log(2)], [1.0, 0.0, 0.0]])),
        (1 / 6 * log(4 / 6) + 2 / 6 * log(8 / 6)) / 2,
    ),
    # KL(P||M) = 1/4 log(1/2) + 3/4 log(3/2) = KL(Q||M)
    "js": (losses.js(P, Q), 0.25 * log(0.5) + 0.75 * log(1.5)),
    # arguments swapped: KL(M||P) = 1/2 log(1/2 / 1/4) + 1/2 log(1/2 / 3/4) = KL(M||Q)
    "js_clamped": (losses.js_clamped(P, Q), 0.5 * log(2) + 0.5 * log(2 / 3)),
    # both sure, of different classes: (0.99, 0.01) and (0.01, 0.99), their mean (1/2, 1/2)
    "js_clamped at the clamp": (
        losses.js_clamped(SURE, SURE.flip(1)),
        0.5 * log(0.5 / 0.99) + 0.5 * log(0.5 / 0.01),
    ),
    "attention": (losses.attention([A], [B]), MAPS),
    "attention of two stages": (losses.attention([A, A], [B, B]), 2 * MAPS),
    "instance alone": (losses.instance(tensor([[0.6, 0.8]]), tensor([[-0.6, -0.8]]), 0.1, 1), 0),
}


@pytest.mark.parametrize(("got", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_by_hand(got, expected):
    assert float(got) == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


def test_kl_against_torch_distributions():
    torch.manual_seed(0)
    t, s = torch.randn(7, 5), torch.randn(7, 5)
    p, q = (torch.distributions.Categorical(logits=u / 3) for u in (t, s))
    expected = torch.distributions.kl_divergence(p, q).mean()
    assert losses.kl(t, s, 3.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_cross_entropy_of_a_softmax_by_hand_and_within_its_bounds():
    e = [math.exp(1 / 6), math.exp(2 / 6), math.exp(3 / 6)]
    assert losses.ce_of_softmax(T, tensor([2])).item() == pytest.approx(-math.log(e[2] / sum(e)), abs=1e-6)
    sure = torch.eye(100) * 1e4  # the audit's figures: [3.62, 4.62] for 100 classes
    right, wrong = torch.arange(100), (torch.arange(100) + 1) % 100
    assert losses.ce_of_softmax(sure, right).item() == pytest.approx(math.log(math.e + 99) - 1, abs=1e-4)
    assert losses.ce_of_softmax(sure, wrong).item() == pytest.approx(math.log(math.e + 99), abs=1e-4)


def test_class_balance_is_finite_for_a_class_never_seen():
    t = tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    losses.class_balance(t).backward()
    assert torch.isfinite(t.grad).all()


def test_scl_ignores_order_and_against_a_loop():
    g = torch.Generator().manual_seed(3)
    h = torch.nn.functional.normalize(torch.randn(12, 5, generator=g), dim=1)
    y = torch.randint(3, (6,), generator=g).repeat(2)
    total = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        down = math.log(sum(math.exp(float(h[i] @ h[j]) / 0.07) for j in others))
        same = [float(h[i] @ h[j]) / 0.07 - down for j in others if y[j] == y[i]]
        total -= sum(same) / len(same)
    assert losses.scl(h, y, 0.07).item() == pytest.approx(total / 12, rel=1e-5)
    order = torch.randperm(12, generator=g)
    assert losses.scl(h[order], y[order], 0.07).item() == pytest.approx(total / 12, rel=1e-5)


def test_kl_agreeing_is_zero_when_they_never_do_and_kl_when_they_always_do():
    t, s = _pair(8)
    never = torch.nn.functional.one_hot((t.argmax(1) + 1) % 5, 5) * 9.0
    assert losses.kl_agreeing(t, never.requires_grad_()).item() == 0.0
    always = s + torch.nn.functional.one_hot(t.argmax(1), 5) * 9.0
    assert losses.kl_agreeing(t, always).item() == pytest.approx(losses.kl(t, always).item(), rel=1e-6)


def test_kl_agreeing_has_no_gradient_where_they_disagree():
    t, s = _pair(9)
    losses.kl_agreeing(t, s.requires_grad_()).backward()
    agree = t.argmax(1) == s.argmax(1)
    assert 0 < agree.sum() < 7
    assert ((s.grad.abs().sum(1) > 0) == agree).all()


def test_js_against_scipy():
    t, s = (10 * u for u in _pair(10))
    p, q = (u.div(2.0).softmax(1).double().numpy() for u in (t, s))
    expected = (jensenshannon(p, q, axis=1) ** 2).mean()
    assert losses.js(t, s, 2.0).item() == pytest.approx(expected, rel=1e-4)


def test_js_is_symmetric_and_in_zero_to_log_two():
    for scale in (0.1, 1.0, 30.0, 1000.0):
        t, s = (scale * u for u in _pair(11))
        value = losses.js(t, s).item()
        assert value == pytest.approx(losses.js(s, t).item(), rel=1e-5)
        assert 0 <= value <= math.log(2) + 1e-6
        assert losses.js(t, t).item() == pytest.approx(0.0, abs=1e-6)
    far = tensor([[1e4, 0.0]])
    assert losses.js(far, far.flip(1)).item() == pytest.approx(math.log(2), abs=1e-6)


def test_clamped_js_is_symmetric_zero_on_itself_and_dead_beyond_the_clamp():
    t, s = _pair(12)
    assert losses.js_clamped(t, s).item() == pytest.approx(losses.js_clamped(s, t).item(), rel=1e-5)
    assert losses.js_clamped(t, t).item() == pytest.approx(0.0, abs=1e-7)
    sure, other = tensor([[300.0, 0.0]], requires_grad=True), tensor([[0.0, 300.0]])
    losses.js_clamped(other, sure).backward()
    assert (sure.grad == 0).all()


def test_attention_is_zero_on_itself_symmetric_and_blind_to_scale_sign_and_channels_order():
    g = torch.Generator().manual_seed(13)
    s = [torch.randn(3, c, 4, 4, generator=g) for c in (2, 5)]
    t = [torch.randn(3, c, 4, 4, generator=g) for c in (4, 1)]
    value = losses.attention(s, t).item()
    assert losses.attention(s, s).item() == 0.0
    assert losses.attention(t, s).item() == pytest.approx(value, rel=1e-6)
    assert losses.attention([-3.0 * a for a in s], t).item() == pytest.approx(value, rel=1e-5)
    assert losses.attention([a.flip(1) for a in s], t).item() == pytest.approx(value, rel=1e-5)


def test_instance_by_hand():
    # rows e1, e2 against columns e1, e2 at tau 1/2: each -log(e^2 / (e^2 + 1))
    eye = torch.eye(2)
    each = math.log(1 + math.exp(-2))
    assert losses.instance(eye, eye, 0.5, 2).item() == pytest.approx(each, abs=1e-6)
    assert losses.instance(eye, eye, 0.5, 1).item() == pytest.approx(2 * each, abs=1e-6)
    # swapped columns: -log(1 / (e^2 + 1)); only the current row is, so the two averages differ
    a = torch.cat([eye, eye[:1]])
    b = torch.cat([eye.flip(0), eye[:1]])
    # rows e1, e2, e1 against columns e2, e1, e1: similarities (0, 2, 2), (2, 0, 0), (0, 2, 2)
    wrong = math.log(1 + 2 * math.exp(2))
    other = math.log(math.exp(2) + 2)
    right = wrong - 2
    assert losses.instance(a, b, 0.5, 2).item() == pytest.approx((wrong + other) / 2 + right, abs=1e-5)


def test_instance_ignores_the_order_of_current_rows_and_of_the_bank():
    a, b = (torch.nn.functional.normalize(u, dim=1) for u in _pair(14, rows=9))
    value = losses.instance(a, b, 0.1, 4).item()
    order = tensor([2, 0, 3, 1, 8, 6, 4, 7, 5])  # of four current rows, and of five in the bank
    assert losses.instance(a[order], b[order], 0.1, 4).item() == pytest.approx(value, rel=1e-5)
