"""Each prior on images: an example worked by hand, and a law."""

import math

import pytest
import torch
from torch import tensor

from harness.network import BNStat, Out
from methods.shared import priors


def _stat(mean, var, running_mean, running_var, input=0.0):
    return BNStat(*(tensor(v) for v in (mean, var, running_mean, running_var, input)))


def _out(*stats):
    return Out(torch.empty(0), bn=stats)


ONE = _stat([0.0, 0.0], [1.0, 1.0], [3.0, 4.0], [1.0, 1.0])  # |mean| = 5
TWO = _stat([0.0], [3.0], [0.0], [1.0])  # |var| = 2


def test_bn_prior_by_hand_and_zero_on_its_own_statistics():
    assert priors.bn(_out(ONE, TWO)).item() == pytest.approx(7.0)
    assert priors.bn(_out(ONE, TWO), 10.0).item() == pytest.approx(10 * 5 + 2)  # the first layer
    assert priors.bn(_out(_stat([1.0], [2.0], [1.0], [2.0]))).item() == 0.0


def test_bn_prior_without_the_tap_says_so():
    for prior in (priors.bn, priors.pooled, lambda out: priors.bn_momentum(out, [], 0.5)):
        with pytest.raises(ValueError, match="taps"):
            prior(Out(torch.empty(0)))


def test_bn_prior_with_momentum_by_hand():
    # m = 3/4 on means 0, 0 with the average 4, 4: mixed 3, 3 against 3, 4: 1. On a variance of 3 with
    # the average 1: mixed 3/4 + 3/4 = 1.5 against 1: 0.5. The other statistics match.
    memory = [(tensor([4.0, 4.0]), tensor([1.0, 1.0])), (tensor([0.0]), tensor([1.0]))]
    assert priors.bn_momentum(_out(ONE, TWO), memory, 0.75).item() == pytest.approx(1.5)
    assert priors.bn_momentum(_out(ONE, TWO), memory, 0.0).item() == priors.bn(_out(ONE, TWO)).item()


def test_bn_prior_with_momentum_has_the_rest_of_the_gradient():
    """Where the average is what T stores, the mix is 1 - m of the way, and so is the gradient."""
    grads = []
    for m in (0.0, 0.9):
        mean = tensor([0.0, 0.0], requires_grad=True)
        one = ONE._replace(mean=mean)
        priors.bn_momentum(_out(one), [(one.running_mean, one.running_var)], m).backward()
        grads.append(mean.grad)
    assert torch.allclose(grads[1], 0.1 * grads[0], rtol=1e-5)


def test_the_average_of_statistics_by_hand():
    first = priors.remembered(_out(ONE, TWO), None, 0.9)
    assert [m.tolist() for m, _ in first] == [[0.0, 0.0], [0.0]]
    assert [v.tolist() for _, v in first] == [[1.0, 1.0], [3.0]]
    second = priors.remembered(_out(_stat([10.0, 20.0], [2.0, 0.0], [0.0] * 2, [0.0] * 2), TWO), first, 0.9)
    # 0.9 x 0 + 0.1 x (10, 20); 0.9 x 1 + 0.1 x (2, 0); what comes again stays
    assert second[0][0].tolist() == pytest.approx([1.0, 2.0])
    assert second[0][1].tolist() == pytest.approx([1.1, 0.9])
    assert second[1][1].tolist() == pytest.approx([3.0])


def test_the_average_of_statistics_carries_no_graph():
    mean = tensor([1.0], requires_grad=True)
    for memory in (None, [(tensor([0.0]), tensor([1.0]))]):
        found = priors.remembered(_out(TWO._replace(mean=mean * 2)), memory, 0.5)
        assert not found[0][0].requires_grad


def test_pooled_features_by_hand():
    # two images, two layers: of two channels and of one; their means side by side
    a = tensor([[[[1.0, 3.0]], [[5.0, 7.0]]], [[[0.0, 1.0]], [[2.0, 2.0]]]])
    b = tensor([[[[2.0, 4.0], [6.0, 8.0]]], [[[0.0, 0.0], [4.0, 0.0]]]])
    got = priors.pooled(_out()._replace(inputs=(a, b)))
    assert got.tolist() == [[2.0, 6.0, 5.0], [0.5, 2.0, 1.0]]


IMAGE = tensor([[[[1.0, 2.0], [4.0, 8.0]]]])


def test_total_variation_and_norm_by_hand():
    # down 3, 6; right 1, 4; diagonals 8 - 1 = 7 and 4 - 2 = 2
    norms = math.sqrt(9 + 36) + math.sqrt(1 + 16) + 7 + 2
    assert priors.tv_norm(IMAGE).item() == pytest.approx(norms, rel=1e-6)
    assert priors.tv_mean(IMAGE).item() == pytest.approx((3 + 6) / 2 + (1 + 4) / 2 + 7 + 2)
    four = IMAGE.repeat(4, 1, 1, 1)  # grows with the root of the batch, or not at all
    assert priors.tv_norm(four).item() == pytest.approx(2 * norms, rel=1e-6)
    assert priors.tv_mean(four).item() == pytest.approx(priors.tv_mean(IMAGE).item(), rel=1e-6)
    assert priors.l2(tensor([[[[3.0]], [[4.0]]]])).item() == pytest.approx(5.0)


@pytest.mark.parametrize("tv", [priors.tv_norm, priors.tv_mean])
def test_total_variation_of_a_constant_is_zero_and_it_is_blind_to_shift_sign_and_mirror(tv):
    x = torch.rand(3, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    assert tv(torch.full_like(x, 0.3)).item() == 0.0
    for same in (x + 2, -x, x.flip(2), x.flip(3), x.transpose(2, 3)):
        assert tv(same).item() == pytest.approx(tv(x).item(), rel=1e-4)
    assert tv(3 * x).item() == pytest.approx(3 * tv(x).item(), rel=1e-5)
