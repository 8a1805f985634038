"""Layout, precision, freezing and the cost count."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.compute import Compute, Meter, frozen, own_globals, pick_device
from harness.nets.catalog import build
from harness.trials.toy import TOY, toy_method
from tests.build import refused


def test_a_linear_layer_costs_two_flops_a_weight_and_pass():
    meter, layer = Meter(), nn.Linear(3, 5)
    meter.watch("layer", layer)
    x = torch.ones(7, 3)
    with torch.no_grad():
        layer(x)
    assert meter.flops == 7 * 2 * 15  # forward
    meter.flops = 0
    layer(x)
    assert meter.flops == 7 * 2 * 15 * 2  # + to the weights; nothing runs to x
    meter.flops = 0
    layer(x.requires_grad_())
    assert meter.flops == 7 * 2 * 15 * 3
    meter.flops = 0
    with frozen(layer):
        layer(x)
    assert meter.flops == 7 * 2 * 15 * 2  # forward and to the input


@pytest.mark.parametrize("mode", ["none", "weights", "input", "both"])
def test_a_network_costs_what_the_flop_counter_says(mode):
    meter, net = Meter(), build("wrn16_1", TOY)
    meter.watch("net", net)
    x = torch.rand(6, *TOY.shape, requires_grad=mode in ("input", "both"))
    net.requires_grad_(mode in ("weights", "both"))
    net(x)  # measured outside the counter
    before = meter.flops
    with FlopCounterMode(display=False) as counter:
        out = net(x)
        if out.requires_grad:
            out.sum().backward()
    assert meter.flops - before == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_measuring_moves_nothing():
    net = build("wrn16_1", TOY).train()
    Meter().watch("net", net)
    twin = build("wrn16_1", TOY).train()
    twin.load_state_dict(net.state_dict())
    x, rng = torch.rand(6, *TOY.shape), torch.get_rng_state()
    net(x)
    assert torch.equal(rng, torch.get_rng_state())
    twin(x)
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in net.state_dict().items())


def test_frozen_keeps_what_was_frozen_before():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[0].requires_grad_(False)
    with frozen(net):
        assert not any(p.requires_grad for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


@pytest.mark.parametrize(
    ("how", "least", "most"), [({"precision": "bf16"}, 0.0, 0.05), ({"channels_last": True}, -1.0, 1e-5)]
)
def test_bf16_and_another_layout_answer_in_fp32_and_nearly_the_same(how, least, most):
    torch.manual_seed(0)
    net, x = build("wrn16_1", TOY).eval(), torch.rand(4, *TOY.shape)
    with torch.no_grad():
        exact = net(x)
        compute = Compute(**how)
        compute.prepare("S", net)
        rough = net(x)
        assert rough.dtype == torch.float32
        assert least < (rough - exact).abs().max() < most * (1 + 2 * exact.abs().max())
        with compute.plain(net):
            assert torch.allclose(net(x), exact, atol=1e-5)


def test_plain_is_uncounted_and_gives_the_mode_back():
    compute, net = Compute(), build("wrn16_1", TOY).train()
    compute.prepare("S", net)
    with compute.plain(net):
        assert not net.training
        net(torch.rand(3, *TOY.shape))
    assert net.training
    assert compute.meter.flops == 0


def test_a_gpu_that_is_not_there_is_one_line():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    refused(lambda: pick_device("cuda"), "no GPU")


def test_own_globals_come_back():
    torch.manual_seed(3)
    rng = torch.get_rng_state()
    with own_globals(5, 1):
        torch.rand(4)
        torch.set_grad_enabled(False)
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.is_grad_enabled()


def test_no_weight_gradient_of_teacher_or_student_in_the_generators_half():
    method = toy_method("cpsc")
    method.synthesize()
    assert all(p.grad is None for p in method.S.parameters())
    assert all(p.grad is None for p in method.T.parameters())


def test_compiled_equals_eager():
    torch.manual_seed(0)
    net, twin = build("lenet5_half_bn", TOY).eval(), build("lenet5_half_bn", TOY).eval()
    twin.load_state_dict(net.state_dict())
    compute = Compute(compile=True)
    with torch._dynamo.config.patch(disable=False):
        net.forward = torch.compile(net.forward, backend="eager")
        compute.meter.watch("S", net)
        x = torch.rand(4, *TOY.shape)
        assert torch.allclose(net(x), twin(x), atol=1e-6)
        assert compute.meter.flops > 0
