"""Generators: counts worked by hand, a second forward, what the label may touch, the inverse map."""

# mypy: disable-error-code="union-attr,index,operator,arg-type,attr-defined,var-annotated"
# (to mypy a module's attribute is "Tensor | Module" and a buffer may be None; assertions here look into both)

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.config import Task
from harness.nets import generators
from harness.nets.generators import CFE_PRESETS, Adapter, CategoricalBN, CFEGenerator, DAFLGenerator, Trunk
from tests.build import a_task, refused

#: the trunk at nz 256, 3 x 32 x 32: (256 + 1) 128 64 ; (9 128 + 1) 128 ; (9 128 + 1) 64 ; (9 64 + 1) 3
TRUNK = 2_105_344 + 147_584 + 73_792 + 1_731


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noise(n: int, nz: int, seed: int = 0) -> Tensor:
    return torch.randn(n, nz, generator=torch.Generator().manual_seed(seed))


def lively(module: nn.Module) -> nn.Module:
    """Every scale, shift and statistic a number of its own."""
    torch.manual_seed(0)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 1.5)
            if m.affine:
                nn.init.uniform_(m.weight, 0.5, 1.5)
                nn.init.uniform_(m.bias, -0.5, 0.5)
        if isinstance(m, CategoricalBN):
            nn.init.uniform_(m.scale.weight, 0.5, 1.5)
            nn.init.uniform_(m.shift.weight, -0.5, 0.5)
    return module


# --- sizes --------------------------------------------------------------------------------------


def test_dafl_counts_worked_by_hand() -> None:
    task = a_task()
    assert count(DAFLGenerator(256, task)) == TRUNK + 2 * (128 + 128 + 64)
    assert count(DAFLGenerator(256, task, affine_out=True)) == TRUNK + 2 * (128 + 128 + 64 + 3)
    assert count(DAFLGenerator(256, task, final="sigmoid")) == TRUNK + 2 * (128 + 128 + 64)
    # the large relative of CMI: 4.58 M at nz 256, 8.78 M at nz 512
    large = (256, 128, 64)
    assert count(DAFLGenerator(256, task, width=large)) / 1e6 == pytest.approx(4.58, abs=0.005)
    assert count(DAFLGenerator(512, task, width=large)) / 1e6 == pytest.approx(8.78, abs=0.005)


def test_cfe_counts_worked_by_hand() -> None:
    norms = 128 + 128 + 64 + 3
    assert count(CFEGenerator(256, a_task())) == TRUNK + 2 * 10 * norms == 2_334_911
    assert count(CFEGenerator(256, a_task(classes=100))) == TRUNK + 2 * 100 * norms == 2_393_051
    # 64 px: only the linear layer grows, to 128 x 16 x 16
    big = CFEGenerator(256, a_task(64, classes=200))
    assert count(big) == 257 * 128 * 256 + 147_584 + 73_792 + 1_731 + 2 * 200 * norms == 8_773_683
    assert count(CFEGenerator(256, a_task(), cfe_layers=())) == TRUNK + 2 * norms
    # m = 16: one K x m table and two maps m -> C with bias per layer
    factorised = CFEGenerator(256, a_task(classes=100), cfe_embedding_dim=16)
    assert count(factorised) == TRUNK + 4 * 100 * 16 + 2 * (16 + 1) * norms


@pytest.mark.parametrize("name", ["dafl", "cfe"])
def test_multiply_adds_are_the_published_117_million_or_folded_fewer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = torch.zeros(1).long()
    g, *args = (DAFLGenerator(256, a_task()),) if name == "dafl" else (CFEGenerator(256, a_task()), label)

    def multiplications() -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            g.eval()(noise(1, 256), *args)
        return counter.get_total_flops() / 2

    # a 4 x 4 kernel at every pixel before upsampling:
    # 256 8192 + 16 128 128 8^2 + 16 128 64 16^2 + 9 64 3 32^2
    assert multiplications() == 2_097_152 + 16_777_216 + 33_554_432 + 1_769_472
    monkeypatch.setattr(generators, "FOLD_FROM", 99)
    # in two steps, as published: 256 8192 + 9 128 128 16^2 + 9 128 64 32^2 + 9 64 3 32^2
    assert multiplications() == 2_097_152 + 37_748_736 + 75_497_472 + 1_769_472


@pytest.mark.parametrize("side", [4, 7, 8, 13])
def test_one_transposed_convolution_is_upsampling_and_convolution(side: int) -> None:
    """Values and all three gradients against the two steps, in double precision; 4 is under the threshold."""
    torch.manual_seed(side)
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(2, 5, 2 * side, 2 * side, dtype=torch.float64)
    wide = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    wanted = F.conv2d(wide, conv.weight, conv.bias, padding=1)
    made = generators.twice(x, conv)
    assert torch.allclose(made, wanted, rtol=0, atol=1e-12)
    leaves = (x, conv.weight, conv.bias)
    for a, b in zip(
        torch.autograd.grad((made * pull).sum(), leaves),
        torch.autograd.grad((wanted * pull).sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 16, 28, 30, 32, 64])
def test_images_have_the_size_of_the_task(side: int, channels: int) -> None:
    task = a_task(side, channels)
    y = torch.tensor([0, 3])
    for final in ("tanh_bn", "sigmoid", "bn"):
        x = DAFLGenerator(5, task, final=final, width=(4, 4, 4))(noise(2, 5))
        assert x.shape == (2, channels, side, side) and torch.isfinite(x).all()
    g = CFEGenerator(5, task)
    assert g.nz == 5 and g(noise(2, 5), y).shape == (2, channels, side, side)


def test_a_side_that_is_no_multiple_of_four_is_cropped() -> None:
    torch.manual_seed(0)
    odd = DAFLGenerator(5, a_task(30), width=(4, 4, 4)).eval()
    torch.manual_seed(0)
    whole = DAFLGenerator(5, a_task(32), width=(4, 4, 4)).eval()
    z = noise(2, 5)
    assert torch.equal(odd(z), whole(z)[:, :, :30, :30])


# --- a second forward ---------------------------------------------------------------------------


def _norm(sd: Mapping[str, Tensor], key: str, x: Tensor, eps: float) -> Tensor:
    mean, var = sd[f"{key}.running_mean"], sd[f"{key}.running_var"]
    x = (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + eps).sqrt()
    weight, bias = sd.get(f"{key}.weight"), sd.get(f"{key}.bias")
    return x if weight is None else x * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def _trunk(sd: Mapping[str, Tensor], z: Tensor, side: int, norm: Callable[[int, Tensor], Tensor]) -> Tensor:
    x = norm(
        0, F.linear(z, sd["linear.weight"], sd["linear.bias"]).reshape(len(z), 128, side // 4, side // 4)
    )
    for i in (1, 2):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = norm(i, F.conv2d(x, sd[f"conv{i}.weight"], sd[f"conv{i}.bias"], padding=1))
        x = torch.where(x > 0, x, 0.2 * x)
    return F.conv2d(x, sd["conv3.weight"], sd["conv3.bias"], padding=1)


def _units(x: Tensor, task: Task) -> Tensor:
    return x * torch.tensor(task.std).view(-1, 1, 1) + torch.tensor(task.mean).view(-1, 1, 1)


@pytest.mark.parametrize("final", ["tanh_bn", "sigmoid", "bn"])
def test_dafl_equals_a_second_forward(final: str) -> None:
    task = a_task(16)
    g = lively(DAFLGenerator(8, task, bn_eps=0.8, final=final, affine_out=True)).eval()
    sd, z = g.state_dict(), noise(3, 8)
    # the eps of DAFL's released code sits in the two conv BNs alone
    x = _trunk(sd, z, 16, lambda i, x: _norm(sd, f"bn{i}", x, 1e-5 if i == 0 else 0.8))
    ends = {
        "tanh_bn": lambda: _units(_norm(sd, "bn3", x.tanh(), 1e-5), task),
        "bn": lambda: _units(_norm(sd, "bn3", x, 1e-5), task),
        "sigmoid": lambda: 1 / (1 + (-x).exp()),
    }
    torch.testing.assert_close(g(z), ends[final](), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", CFE_PRESETS)
def test_cfe_equals_a_second_forward_for_every_preset(preset: str) -> None:
    task = a_task(16)
    layers = CFE_PRESETS[preset]
    g = lively(CFEGenerator(8, task, cfe_layers=layers)).eval()
    sd, z, y = g.state_dict(), noise(3, 8), torch.tensor([2, 0, 9])

    def norm(i: int, x: Tensor) -> Tensor:
        key = f"norms.{i}"
        if i not in layers:
            return _norm(sd, key, x, 1e-3)
        rows = [sd[f"{key}.{part}.weight"][y].reshape(3, -1, 1, 1) for part in ("scale", "shift")]
        return _norm(sd, f"{key}.bn", x, 1e-3) * rows[0] + rows[1]

    expected = _units(norm(3, _trunk(sd, z, 16, norm).tanh()), task)
    torch.testing.assert_close(g(z, y), expected, rtol=1e-4, atol=1e-5)


# --- what the images are like -------------------------------------------------------------------


def test_images_are_centred_on_the_task_in_unit_space_and_never_clamped() -> None:
    task = a_task()
    for x in (
        DAFLGenerator(64, task)(noise(32, 64)),
        DAFLGenerator(64, task, final="bn")(noise(32, 64)),
        CFEGenerator(64, task, bn_eps=1e-5)(noise(32, 64), torch.arange(32) % 10),
    ):
        torch.testing.assert_close(x.mean((0, 2, 3)), torch.tensor(task.mean), rtol=0, atol=1e-4)
        torch.testing.assert_close(x.std((0, 2, 3)), torch.tensor(task.std), rtol=0, atol=1e-3)
    loud = DAFLGenerator(64, task, affine_out=True)
    nn.init.constant_(loud.bn3.weight, 9.0)
    x = loud(noise(8, 64))
    assert x.max() > 1.5 and x.min() < -0.5
    x = DAFLGenerator(64, task, final="sigmoid")(noise(8, 64))
    assert x.min() > 0 and x.max() < 1


@pytest.mark.parametrize("make", [lambda t: DAFLGenerator(8, t), lambda t: CFEGenerator(8, t)])
def test_train_mode_takes_batch_statistics_and_eval_mode_the_running_ones(
    make: Callable[[Task], Trunk],
) -> None:
    g = make(a_task(8, 1))
    z, y = noise(6, 8), torch.zeros(6).long()

    def run(z: Tensor) -> Tensor:
        return g(z, y[: len(z)]) if isinstance(g, CFEGenerator) else g(z)

    norms = [m for m in g.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 4
    assert not torch.allclose(run(z)[:3], run(z[:3]), atol=1e-3)
    assert all(m.running_mean.any() and m.momentum == 0.1 for m in norms)
    g.eval()
    kept = [m.running_mean.clone() for m in norms]
    torch.testing.assert_close(run(z)[:3], run(z[:3]))
    assert all(torch.equal(m.running_mean, k) for m, k in zip(norms, kept, strict=True))


# --- the label ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize("part", ["scale", "shift"])
def test_a_class_changes_its_own_images_alone(layer: int, part: str) -> None:
    g = CFEGenerator(8, a_task(8)).eval()
    z, y = noise(4, 8), torch.tensor([1, 4, 1, 7])
    before = g(z, y)
    with torch.no_grad():
        getattr(g.norms[layer], part).weight[1] += 0.5
    changed = (g(z, y) - before).abs().amax((1, 2, 3)) > 1e-4
    assert changed.tolist() == [True, False, True, False]


def test_released_tables_start_as_no_embedding_and_learn_only_the_classes_seen() -> None:
    g = CFEGenerator(8, a_task(8)).eval()
    z = noise(2, 8)
    assert torch.equal(g(z, torch.tensor([0, 1])), g(z, torch.tensor([5, 9])))
    g(z, torch.tensor([3, 6])).square().sum().backward()
    for norm in g.norms:
        assert norm.scale.weight.shape == norm.shift.weight.shape == (10, norm.bn.num_features)
        for table in (norm.scale.weight, norm.shift.weight):
            assert table.grad.abs().sum(1).nonzero().flatten().tolist() == [3, 6]


def test_factorised_tables_have_their_shapes_and_start_close_to_no_embedding() -> None:
    torch.manual_seed(0)
    g = CFEGenerator(8, a_task(8, classes=50), cfe_embedding_dim=16).eval()
    everyone = torch.arange(50)
    for norm, c in zip(g.norms, (128, 128, 64, 3), strict=True):
        assert norm.table.weight.shape == (50, 16)
        assert norm.scale.weight.shape == norm.shift.weight.shape == (c, 16)
        scale, shift = norm.scale(norm.table(everyone)), norm.shift(norm.table(everyone))
        assert scale.shape == shift.shape == (50, c)
        assert 0 < (scale - 1).abs().max() < 0.15 and 0 < shift.abs().max() < 0.15
        # rank m: what makes it a factorisation
        assert torch.linalg.matrix_rank(scale - norm.scale.bias) <= 16
    z = noise(1, 8).expand(2, 8)
    x = g(z, torch.tensor([0, 1]))
    assert 0 < (x[0] - x[1]).abs().max() < 0.3
    x.square().sum().backward()
    assert g.norms[0].table.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [0, 1]


def test_presets_choose_which_normalisations_are_categorical() -> None:
    dropped = {"drop0": (1, 2, 3), "drop1": (0, 2, 3), "drop2": (0, 1, 3), "drop3": (0, 1, 2)}
    assert {"full": (0, 1, 2, 3), **dropped, "none": ()} == CFE_PRESETS
    for layers in CFE_PRESETS.values():
        g = CFEGenerator(4, a_task(8), cfe_layers=layers)
        assert tuple(i for i, m in enumerate(g.norms) if isinstance(m, CategoricalBN)) == layers
        for m in g.norms:
            bn = m.bn if isinstance(m, CategoricalBN) else m
            assert (bn.eps, bn.momentum, bn.affine) == (1e-3, 0.1, m is bn)


# --- precision, layout, compile, meta -----------------------------------------------------------


@pytest.mark.parametrize("dim", [None, 4])
def test_generators_survive_autocast_layout_compile_and_meta(dim: int | None) -> None:
    task = a_task(16)
    z, y = noise(4, 8), torch.tensor([0, 1, 2, 3])
    g = CFEGenerator(8, task, cfe_embedding_dim=dim).eval()
    expected = g(z, y)
    with torch.autocast("cpu", torch.bfloat16):
        half = g(z, y)
    assert half.dtype == torch.float32 and {p.dtype for p in g.parameters()} == {torch.float32}
    torch.testing.assert_close(half, expected, rtol=0, atol=0.03)
    # an image is not rounded to the 8 bits of bf16
    assert (half.bfloat16().float() != half).float().mean() > 0.9
    compiled = torch.compile(g, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z, y), expected)
    torch.testing.assert_close(g.to(memory_format=torch.channels_last)(z, y), expected, rtol=1e-4, atol=1e-5)
    with torch.device("meta"):
        x = CFEGenerator(8, task, cfe_embedding_dim=dim)(torch.empty(2, 8), torch.empty(2, dtype=torch.long))
    assert x.shape == (2, 3, 16, 16)


def test_dafl_survives_autocast_and_compile_and_the_tasks_constants_are_no_weights() -> None:
    for final in ("sigmoid", "bn", "tanh_bn"):  # the last is compiled
        g = DAFLGenerator(8, a_task(8), final=final, width=(8, 8, 8)).eval()
        z = noise(4, 8)
        with torch.autocast("cpu", torch.bfloat16):
            assert g(z).dtype == torch.float32
    torch.testing.assert_close(torch.compile(g, backend="eager", fullgraph=True)(z), g(z))
    assert not {"mean", "std"} & g.state_dict().keys()


# --- errors and adapter -------------------------------------------------------------------------


def test_mistakes_are_told_in_one_line() -> None:
    task = a_task(8)
    refused(
        lambda: DAFLGenerator(4, task, final="tanh"),
        "unknown generator final 'tanh'",
        "did you mean 'tanh_bn'",
    )
    refused(lambda: DAFLGenerator(0, task), "nz=0 must be at least 1")
    refused(lambda: DAFLGenerator(4, task, width=(8, 8)), "three positive numbers")
    refused(lambda: CFEGenerator(4, task, cfe_layers=(1, 4)), "no layer 4; allowed: 0, 1, 2, 3")
    refused(lambda: CFEGenerator(4, task, cfe_embedding_dim=0), "cfe_embedding_dim=0")


def test_adapter_is_two_layers_and_unit_length() -> None:
    torch.manual_seed(0)
    a = Adapter(64, 128)
    assert count(a) == 64 * 65 + 128 * 65
    h = noise(5, 64)
    out = a(h)
    assert out.shape == (5, 128)
    torch.testing.assert_close(out.square().sum(1), torch.ones(5))
    raw = Adapter(64, 128, normalise=False)
    raw.load_state_dict(a.state_dict())
    w1, b1, w2, b2 = a.parameters()
    expected = (h @ w1.T + b1).clamp(min=0) @ w2.T + b2
    torch.testing.assert_close(raw(h), expected)
    torch.testing.assert_close(out, expected / expected.norm(dim=1, keepdim=True))
    with torch.autocast("cpu", torch.bfloat16):
        assert a(h).dtype == torch.float32
