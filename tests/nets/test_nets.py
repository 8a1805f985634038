"""Classifiers: published figures, taps against hooks and a second forward written from the key names."""

# mypy: disable-error-code="union-attr,index,operator,arg-type,attr-defined,var-annotated"
# (to mypy a module's attribute is "Tensor | Module" and a buffer may be None; assertions here look into both)

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.config import Task
from harness.nets import base
from harness.nets.base import TAPS, Net, TapBN, bn_stat, reset_normaliser
from harness.nets.catalog import build, nets, spec
from harness.nets.resnet import ResNet
from harness.nets.wrn import WRN
from harness.network import Out
from tests.build import a_task, refused

NAMES = (
    "lenet5 lenet5_bn lenet5_half lenet5_half_bn resnet18 resnet34 vgg11 wrn16_1 wrn16_2 wrn40_1 wrn40_2"
).split()

#: counted on the definitions that CPSC, CMI and FAST share: millions of parameters at K = 10, 100 and 200,
#: millions of multiply-adds at 32 px (K = 10) and 64 px (K = 200), feature width, BN layers,
#: sum of their channels
PUBLISHED = {
    "resnet18": ((11.17, 11.22, 11.27), (555, 2220), 512, 20, 4800),
    "resnet34": ((21.28, 21.33, 21.38), (1159, 4640), 512, 36, 8512),
    "vgg11": ((9.23, 9.28, 9.33), (209, 610), 512, 8, 2752),
    "wrn16_1": ((0.175, 0.181, 0.19), (27, 110), 64, 13, 464),
    "wrn16_2": ((0.692, 0.703, 0.72), (101, 400), 128, 13, 912),
    "wrn40_1": ((0.564, 0.570, 0.58), (83, 330), 64, 37, 1360),
    "wrn40_2": ((2.244, 2.255, 2.27), (328, 1310), 128, 37, 2704),
}


def lively(name: str, task: Task) -> Net:
    """A network in eval mode whose BN layers hold numbers of their own, so that no mistake cancels."""
    torch.manual_seed(0)
    net = build(name, task).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -0.5, 0.5)
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 1.5)
    return net


def images(task: Task, n: int = 3) -> Tensor:
    return torch.rand(n, *task.shape, generator=torch.Generator().manual_seed(1))


def macs(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 2e6


def test_every_network_of_the_issue_is_registered() -> None:
    assert nets.names() == NAMES


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_equal_the_published_ones(name: str) -> None:
    params, (macs32, macs64), width, layers, channels = PUBLISHED[name]
    for classes, side, expected in zip((10, 100, 200), (32, 32, 64), params, strict=True):
        s = spec(name, a_task(side, classes=classes))
        digits = len(str(expected).split(".")[1])
        assert s.params / 1e6 == pytest.approx(expected, abs=0.501 * 10**-digits)
        assert (s.width, len(s.bn_channels), sum(s.bn_channels)) == (width, layers, channels)
        assert s.has_bn
    small, big = a_task(32), a_task(64, classes=200)
    with torch.device("meta"):
        assert macs(lambda: build(name, small)(torch.empty(1, *small.shape))) == pytest.approx(
            macs32, abs=0.6
        )
        assert macs(lambda: build(name, big)(torch.empty(1, *big.shape))) == pytest.approx(macs64, abs=6)


def test_lenet_counts_worked_by_hand() -> None:
    # 5x5 kernels and biases: (25 + 1) 6 + (150 + 1) 16 + (400 + 1) 120 + 121 * 84 + 85 * 10
    digits = a_task(32, channels=1)
    assert spec("lenet5", digits).params == 156 + 2416 + 48120 + 10164 + 850
    # (25 + 1) 3 + (75 + 1) 8 + (200 + 1) 60 + 61 * 42 + 43 * 10
    assert spec("lenet5_half", digits).params == 78 + 608 + 12060 + 2562 + 430
    assert not spec("lenet5", digits).has_bn and spec("lenet5", digits).width == 84
    assert spec("lenet5_bn", digits).bn_channels == (6, 16, 120)
    assert spec("lenet5_half_bn", digits).bn_channels == (3, 8, 60)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 3), (64, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_spec_tells_what_a_forward_gives(name: str, side: int, channels: int) -> None:
    task = a_task(side, channels, classes=7)
    with torch.device("meta"):
        net = build(name, task)
        out = net(torch.empty(2, *task.shape), taps=TAPS)
    s = spec(name, task)
    assert (s.name, s.channels, s.side, s.classes) == (name, channels, side, 7) and net.name == name
    assert out.logits.shape == (2, 7)
    assert out.h.shape == (2, s.width) and net.head.in_features == s.width
    assert tuple(m.shape[1:] for m in out.maps) == s.stages
    assert tuple(len(b.mean) for b in out.bn) == s.bn_channels
    assert s.params == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize("name", ["lenet5_half_bn", "vgg11", "wrn16_1"])
def test_small_and_large_images_train(name: str, side: int) -> None:
    task = a_task(side, 1)
    net = build(name, task)
    net(images(task, 4)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


# --- a second forward, written from the published key names -------------------------------------


def _norm(sd: Mapping[str, Tensor], key: str, x: Tensor) -> Tensor:
    stats = sd[f"{key}.running_mean"], sd[f"{key}.running_var"]
    return F.batch_norm(x, *stats, sd[f"{key}.weight"], sd[f"{key}.bias"], eps=1e-5)


def _resnet18(sd: Mapping[str, Tensor], x: Tensor) -> Tensor:
    x = _norm(sd, "bn1", F.conv2d(x, sd["conv1.weight"], padding=1)).relu()
    for i in (1, 2, 3, 4):
        for j in (0, 1):
            at, stride = f"layer{i}.{j}", 2 if i > 1 and j == 0 else 1
            y = F.conv2d(x, sd[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(_norm(sd, f"{at}.bn1", y).relu(), sd[f"{at}.conv2.weight"], padding=1)
            y = _norm(sd, f"{at}.bn2", y)
            if stride == 2:
                x = F.conv2d(x, sd[f"{at}.shortcut.0.weight"], stride=2)
                x = _norm(sd, f"{at}.shortcut.1", x)
            x = (y + x).relu()
    return F.linear(x.mean((2, 3)), sd["linear.weight"], sd["linear.bias"])


def _vgg11(sd: Mapping[str, Tensor], x: Tensor) -> Tensor:
    for i, convs in enumerate(((0,), (0,), (0, 3), (0, 3), (0, 3))):
        for j in convs:
            x = F.conv2d(x, sd[f"block{i}.{j}.weight"], sd[f"block{i}.{j}.bias"], padding=1)
            x = _norm(sd, f"block{i}.{j + 1}", x).relu()
        if i < 3:
            x = F.max_pool2d(x, 2, 2)
    x = F.adaptive_avg_pool2d(x, 1).flatten(1)
    return F.linear(x, sd["classifier.weight"], sd["classifier.bias"])


def _wrn(sd: Mapping[str, Tensor], x: Tensor, n: int) -> Tensor:
    x = F.conv2d(x, sd["conv1.weight"], padding=1)
    for i in (1, 2, 3):
        for j in range(n):
            at, stride = f"block{i}.layer.{j}", 2 if i > 1 and j == 0 else 1
            a = _norm(sd, f"{at}.bn1", x).relu()
            y = F.conv2d(a, sd[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(_norm(sd, f"{at}.bn2", y).relu(), sd[f"{at}.conv2.weight"], padding=1)
            short = sd.get(f"{at}.convShortcut.weight")
            x = y + (x if short is None else F.conv2d(a, short, stride=stride))
    x = _norm(sd, "bn1", x).relu()
    return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), sd["fc.weight"], sd["fc.bias"])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("resnet18", _resnet18),
        ("vgg11", _vgg11),
        ("wrn16_1", lambda sd, x: _wrn(sd, x, 2)),
        ("wrn40_2", lambda sd, x: _wrn(sd, x, 6)),
    ],
)
def test_forward_equals_one_written_from_the_published_keys(
    name: str, other: Callable[[Mapping[str, Tensor], Tensor], Tensor]
) -> None:
    task = a_task(16)
    net, x = lively(name, task), images(task)
    mean, std = torch.tensor(task.mean), torch.tensor(task.std)
    z = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(net(x), other(net.state_dict(), z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_lenet_frames_small_images_and_averages_large_ones(side: int) -> None:
    task = a_task(side, 1)
    net, x = lively("lenet5_bn", task), images(task)
    sd, border = net.state_dict(), max(32 - side, 0) // 2
    z = torch.zeros(len(x), 1, max(side, 32), max(side, 32))
    z[:, :, border : border + side, border : border + side] = (x - 0.49) / 0.2
    for i in (1, 2, 3):
        z = F.conv2d(z, sd[f"conv{i}.weight"], sd[f"conv{i}.bias"])
        z = _norm(sd, f"bn{i}", z).relu()
        z = F.max_pool2d(z, 2) if i < 3 else z
    h = F.linear(z.flatten(2).mean(2), sd["fc1.weight"], sd["fc1.bias"]).relu()
    out = net(x, taps=("h",))
    torch.testing.assert_close(out.h, h, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        out.logits, F.linear(h, sd["fc2.weight"], sd["fc2.bias"]), rtol=1e-4, atol=1e-4
    )


def test_wrn_of_width_one_has_no_shortcut_in_its_first_group() -> None:
    keys = [k for k in lively("wrn16_1", a_task(8)).state_dict() if "convShortcut" in k]
    assert keys == ["block2.layer.0.convShortcut.weight", "block3.layer.0.convShortcut.weight"]


def test_initialisation_is_the_published_one() -> None:
    torch.manual_seed(0)
    vgg, wrn = build("vgg11", a_task()), build("wrn40_2", a_task())
    assert vgg.head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not vgg.head.bias.any() and not wrn.head.bias.any()
    assert vgg.block3[0].weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert not vgg.block3[0].bias.any()
    assert wrn.block3.layer[5].conv2.weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)


# --- taps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["lenet5_bn", "resnet18", "vgg11", "wrn16_1"])
def test_taps_equal_what_hooks_see(name: str, training: bool) -> None:
    task = a_task(16)
    net, x = lively(name, task).train(training), images(task, 4)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    heads: list[Tensor] = []

    def see(m: nn.BatchNorm2d, args: tuple[Tensor, ...]) -> None:
        seen.append((args[0].double(), m.running_mean.clone(), m.running_var.clone()))

    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_pre_hook(see)
    net.head.register_forward_pre_hook(lambda m, args: heads.append(args[0]))
    out = net(x, taps=("bn", "h", "inputs"))

    assert torch.equal(out.h, heads[0])
    assert len(out.bn) == len(out.inputs) == len(seen) > 0
    assert all(torch.equal(z, held.double()) for (z, _, _), held in zip(seen, out.inputs, strict=True))
    for stat, (z, mean, var) in zip(out.bn, seen, strict=True):
        pixels = z.detach().numpy().transpose(1, 0, 2, 3).reshape(z.shape[1], -1)
        np.testing.assert_allclose(stat.mean.detach(), pixels.mean(1), atol=1e-5)
        np.testing.assert_allclose(stat.var.detach(), pixels.var(1), rtol=1e-4, atol=1e-6)
        # the numbers from before this forward, also where it has overwritten them since
        assert torch.equal(stat.running_mean, mean) and torch.equal(stat.running_var, var)


def test_maps_are_the_ends_of_the_stages() -> None:
    task = a_task(16)
    for name, ends in (
        ("resnet18", ("layer1.1", "layer2.1", "layer3.1", "layer4.1")),
        ("wrn16_1", ("block1", "block2", "block3")),
    ):
        net, got = lively(name, task), []
        for end in ends:
            net.get_submodule(end).register_forward_hook(lambda m, args, y, got=got: got.append(y))
        out = net(images(task), taps=("maps",))
        assert all(torch.equal(a, b) for a, b in zip(out.maps, got, strict=True))
    vgg = lively("vgg11", task)
    before = []
    vgg.block4[4].register_forward_hook(lambda m, args, y: before.append(y.clone()))
    assert torch.equal(vgg(images(task), taps=("maps",)).maps[-1], before[0].relu())


def test_only_the_taps_asked_for_come_back_and_logits_stay_the_same() -> None:
    task = a_task(8)
    net, x = lively("wrn16_1", task), images(task)
    logits = net(x)
    assert isinstance(logits, Tensor)
    for taps in ((), ("h",), ("maps",), ("bn",), ("inputs",), ("h", "bn"), TAPS):
        out = net(x, taps=taps)
        out = out if isinstance(out, Out) else Out(out)
        assert torch.equal(out.logits, logits)
        if out.inputs is not None:
            assert all(
                torch.equal(a, b.input) for a, b in zip(out.inputs, net(x, taps=("bn",)).bn, strict=True)
            )
        assert tuple(t for t in TAPS if getattr(out, t) is not None) == tuple(taps)


def test_statistics_are_computed_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    task = a_task(8)
    net, x, asked = lively("wrn16_1", task), images(task), []
    monkeypatch.setattr(base, "bn_stat", lambda layer, x: asked.append(layer) or bn_stat(layer, x))
    net(x)
    net(x, taps=("h", "maps", "inputs"))
    assert not asked
    net(x, taps=("bn", "inputs"))
    assert asked == [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def test_gradient_of_the_statistics_is_that_of_the_definition() -> None:
    bn = TapBN(2).double()
    x = torch.randn(3, 2, 4, 5, dtype=torch.double, requires_grad=True)

    def stats(t: Tensor) -> tuple[Tensor, Tensor]:
        s = bn_stat(bn, t)
        return s.mean, s.var

    assert torch.autograd.gradcheck(stats, x)
    assert torch.autograd.gradgradcheck(stats, x)


def test_statistics_of_a_channel_far_from_zero_keep_their_digits() -> None:
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 1e-2 + 100
    stat = bn_stat(nn.BatchNorm2d(3), x)
    np.testing.assert_allclose(stat.var, x.numpy().astype(np.float64).var((0, 2, 3)), rtol=1e-3)


def test_bn_tap_of_a_layer_without_running_statistics_is_refused() -> None:
    bare = nn.BatchNorm2d(3, track_running_stats=False)
    refused(lambda: bn_stat(bare, torch.rand(2, 3, 4, 4)), "tracks no statistics")


# --- normaliser, precision, layout, compile -----------------------------------------------------


def test_the_normaliser_is_inside_and_travels_with_the_weights() -> None:
    task = a_task(8)
    net, x = lively("wrn16_1", task), images(task)
    expected = net(x)
    bare = lively("wrn16_1", Task("toy", 1, 3, 8, task.classes, (0.0,) * 3, (1.0,) * 3))
    mean, std = torch.tensor(task.mean).view(3, 1, 1), torch.tensor(task.std).view(3, 1, 1)
    torch.testing.assert_close(bare((x - mean) / std), expected, rtol=1e-5, atol=1e-5)
    reset_normaliser(bare, task.mean, task.std)
    assert torch.equal(bare(x), expected)
    assert {"mean", "std"} <= net.state_dict().keys()


def test_autocast_leaves_logits_features_and_statistics_in_fp32() -> None:
    task = a_task(16)
    net, x = lively("wrn16_1", task), images(task)
    exact = net(x, taps=("h", "bn"))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x, taps=("h", "bn"))
    assert {t.dtype for s in out.bn for t in s[:4]} == {out.logits.dtype, out.h.dtype} == {torch.float32}
    assert not torch.equal(out.h, exact.h)
    torch.testing.assert_close(out.h, exact.h, rtol=0.1, atol=0.05)
    torch.testing.assert_close(out.bn[3].var, exact.bn[3].var, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "wrn16_2"])
def test_channels_last_gives_the_same_numbers_and_keeps_the_layout(name: str) -> None:
    task = a_task(16)
    net, x = lively(name, task), images(task)
    expected = net(x, taps=TAPS)
    layout = torch.channels_last
    out = net.to(memory_format=layout)(x.to(memory_format=layout), taps=TAPS)
    assert all(m.is_contiguous(memory_format=layout) for m in out.maps)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [partial(WRN, 10, 1), partial(ResNet, "small", (1, 1, 1, 1))])
def test_compiles_into_one_graph_with_and_without_taps(build: Callable[[Task], Net]) -> None:
    task = a_task(8)
    net, x = build(task).eval(), images(task).requires_grad_()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), net(x))
    assert compiled.head is net.head

    def loss(model: Callable[..., Out]) -> Tensor:
        out = model(x, taps=("h", "bn"))
        return out.h.sum() + sum((s.mean.sum() + s.var.sum() for s in out.bn), start=torch.zeros(()))

    expected = torch.autograd.grad(loss(net), x)[0]
    torch.testing.assert_close(torch.autograd.grad(loss(compiled), x)[0], expected)


# --- spec and errors ----------------------------------------------------------------------------


def test_spec_draws_nothing_and_is_remembered() -> None:
    before = torch.get_rng_state()
    assert spec("vgg11", a_task(24)) is spec("vgg11", a_task(24))
    assert torch.equal(torch.get_rng_state(), before)


def test_mistakes_are_told_in_one_line() -> None:
    net = build("lenet5_half", a_task(8, 1))
    refused(lambda: build("wrn16-1", a_task()), "did you mean 'wrn16_1'")
    refused(lambda: spec("wrn16_1", a_task(4)), "at least 8 pixels a side, not 4")
    refused(lambda: net(torch.rand(1, 1, 8, 8), taps=("feature",)), "'feature'; known: h, maps, bn, inputs")
    refused(lambda: reset_normaliser(net, (0.1, 0.2, 0.3), (1.0,)), "3 values for 1 channels")
    refused(lambda: reset_normaliser(net, (0.1,), (0.0,)), "must be positive")
