"""Each loss: an example worked by hand, and a law."""

import math

import pytest
import torch
from torch import tensor

from harness.interface import BNStat, Out
from methods import losses, priors

# softmax of (ln 1, ln 2, ln 3) is (1, 2, 3) / 6
T = tensor([[math.log(1), math.log(2), math.log(3)]])
UNIFORM = torch.zeros(1, 3)


def test_kl_by_hand():
    # sum p log(p / (1/3)) with p = 1/6, 2/6, 3/6
    expected = (1 / 6) * math.log(0.5) + (2 / 6) * math.log(1.0) + (3 / 6) * math.log(1.5)
    assert losses.kl(T, UNIFORM).item() == pytest.approx(expected, abs=1e-6)


def test_kl_against_torch_distributions():
    torch.manual_seed(0)
    t, s = torch.randn(7, 5), torch.randn(7, 5)
    p, q = (torch.distributions.Categorical(logits=u / 3) for u in (t, s))
    expected = torch.distributions.kl_divergence(p, q).mean()
    assert losses.kl(t, s, 3.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_kl_is_zero_on_itself_and_blind_to_a_shift():
    s = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    assert losses.kl(s, s).item() == pytest.approx(0.0, abs=1e-7)
    assert losses.kl(s, s + 5.0).item() == pytest.approx(0.0, abs=1e-6)


def test_kd_is_tau_squared_times_kl():
    # at tau 2 the teacher's softmax is (1, sqrt 2, sqrt 3) / Z
    z = 1 + math.sqrt(2) + math.sqrt(3)
    p = [1 / z, math.sqrt(2) / z, math.sqrt(3) / z]
    expected = 4 * sum(x * math.log(3 * x) for x in p)
    assert losses.kd(T, UNIFORM, 2.0).item() == pytest.approx(expected, abs=1e-6)


S2, T2 = tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[0.0, 4.0], [3.0, 1.0]])  # differences 1, -2, 0, 3


def test_distances_of_logits_by_hand():
    assert losses.l2(S2, T2).item() == pytest.approx((1 + 4 + 0 + 9) / 4)
    assert losses.l1(S2, T2).item() == pytest.approx((1 + 2 + 0 + 3) / 4)
    assert losses.log_mse(S2, T2).item() == pytest.approx(math.log(14 / 4), rel=1e-6)
    assert losses.log_fro(S2, T2).item() == pytest.approx(math.log(math.sqrt(14)), rel=1e-6)


@pytest.mark.parametrize("loss", [losses.l1, losses.l2, losses.log_mse, losses.log_fro])
def test_distances_are_symmetric(loss):
    assert loss(S2, T2).item() == loss(T2, S2).item()


def test_cross_entropy_by_hand():
    assert losses.ce(T, tensor([2])).item() == pytest.approx(-math.log(3 / 6), abs=1e-6)


def test_cross_entropy_of_a_softmax_by_hand_and_within_its_bounds():
    e = [math.exp(1 / 6), math.exp(2 / 6), math.exp(3 / 6)]
    assert losses.ce_of_softmax(T, tensor([2])).item() == pytest.approx(-math.log(e[2] / sum(e)), abs=1e-6)
    sure = torch.eye(100) * 1e4  # the audit's figures: [3.62, 4.62] for 100 classes
    right, wrong = torch.arange(100), (torch.arange(100) + 1) % 100
    assert losses.ce_of_softmax(sure, right).item() == pytest.approx(math.log(math.e + 99) - 1, abs=1e-4)
    assert losses.ce_of_softmax(sure, wrong).item() == pytest.approx(math.log(math.e + 99), abs=1e-4)


def test_one_hot_by_hand_and_smallest_when_sure():
    assert losses.one_hot(T).item() == pytest.approx(-math.log(1 / 2), abs=1e-6)
    assert losses.one_hot(100 * T).item() == pytest.approx(0.0, abs=1e-6)


def test_activation_by_hand_and_blind_to_sign():
    h = tensor([[1.0, -2.0], [3.0, 0.0]])
    assert losses.activation(h).item() == pytest.approx(-6 / 4)
    assert losses.activation(-h).item() == losses.activation(h).item()


def test_class_balance_by_hand_and_in_both_logarithms():
    # mean of (1,2,3)/6 and (3,2,1)/6 is uniform: -log K; one sample alone is its own entropy
    both = torch.cat([T, T.flip(1)])
    assert losses.class_balance(both).item() == pytest.approx(-math.log(3), abs=1e-6)
    alone = sum(x / 6 * math.log(x / 6) for x in (1, 2, 3))
    assert losses.class_balance(T).item() == pytest.approx(alone, abs=1e-6)
    assert losses.class_balance(T, 10.0).item() == pytest.approx(alone / math.log(10), abs=1e-6)


def test_class_balance_is_finite_for_a_class_never_seen():
    t = tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    losses.class_balance(t).backward()
    assert torch.isfinite(t.grad).all()


def test_scl_by_hand():
    # rows a, b of class 0 at a right angle, c of class 1 equal to a; tau 1.
    # a: log p(b) = 0 - log(e^0 + e^1); b: log p(a) = 0 - log(e^0 + e^0); c has no positive.
    h, y = tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), tensor([0, 0, 1])
    expected = (math.log(1 + math.e) + math.log(2)) / 2
    assert losses.scl(h, y, 1.0).item() == pytest.approx(expected, abs=1e-6)


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


def _stat(mean, var, running_mean, running_var):
    return BNStat(*(tensor(v) for v in (mean, var, running_mean, running_var)))


def test_bn_prior_by_hand_and_zero_on_its_own_statistics():
    one = _stat([0.0, 0.0], [1.0, 1.0], [3.0, 4.0], [1.0, 1.0])  # |mean| = 5
    two = _stat([0.0], [3.0], [0.0], [1.0])  # |var| = 2
    assert priors.bn(Out(torch.empty(0), bn=(one, two))).item() == pytest.approx(7.0)
    same = _stat([1.0], [2.0], [1.0], [2.0])
    assert priors.bn(Out(torch.empty(0), bn=(same,))).item() == 0.0


def test_bn_prior_without_the_tap_says_so():
    with pytest.raises(ValueError, match="taps"):
        priors.bn(Out(torch.empty(0)))
