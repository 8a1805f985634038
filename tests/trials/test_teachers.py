"""Teachers: trained once and the same each time, refused when damaged, taken from others' files.

Key names of the imported files are built here from the published definitions of CMI/DataFree and CPSC-DFKD
(which agree), and run by a functional forward of our own, so that a tensor in the wrong place shows.
"""

from __future__ import annotations

import functools
import json
import math
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from harness.config import Recipe, Task, seed_for
from harness.nets.catalog import build
from harness.store import cards
from harness.tasks import images
from harness.tasks.images import Split
from harness.trials import import_teacher, teachers
from tests import build as make
from tests.build import refused

TINY = Recipe(name="tiny", epochs=3, lr=0.1, batch=64)
NET = "wrn16_1"


def trial(digest=None):
    return make.trial(teacher=NET, student=NET, recipe=TINY, teacher_digest=digest)


@pytest.fixture(scope="module")
def digits():
    return images.load("digits")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one teacher; read only."""
    home = tmp_path_factory.mktemp("teachers")
    return home, teachers.train(home, "digits", NET, TINY, 0, threads=1)


@pytest.fixture
def home(made, tmp_path):
    """A copy of that folder, to be spoilt."""
    return shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)


def edit_card(path: Path, **changes) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


# --- training -----------------------------------------------------------------------------------


def test_training_learns_and_the_card_says_what_was_measured(made, digits):
    home, card = made
    assert card.top1 > 60  # three epochs; chance is 10
    net, found = teachers.load(home, trial(), digits.task)
    assert found == card
    x, y = digits.test.batch(slice(None), torch.device("cpu"))
    assert card.top1 == pytest.approx(100 * (net(x).argmax(1) == y).double().mean().item())
    assert (card.task, card.net, card.seed, card.source) == ("digits", NET, 0, "trained")
    assert card.recipe == TINY and card.data_digest == digits.digest
    assert sorted(p.suffix for p in (home / "digits").iterdir()) == [".json", ".lock", ".safetensors"]
    path = cards.path_of(home, trial())
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode  # for other users


def test_same_seed_same_bits_whatever_was_drawn_before(made, tmp_path):
    torch.manual_seed(77)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    again = teachers.train(tmp_path, "digits", NET, TINY, 0, threads=1)
    assert again.digest == made[1].digest
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    short = TINY.model_copy(update={"epochs": 1})
    runs = [teachers.train(tmp_path, "digits", "lenet5_half", short, s, threads=1) for s in (0, 1)]
    assert runs[0].digest != runs[1].digest


def test_training_is_sgd_with_momentum_and_a_cosine_to_zero(tmp_path, digits):
    """Against the update written out: v = 0.9 v + (g + wd w), w -= lr v, lr = lr0 (1 + cos(pi t / T)) / 2."""
    recipe = Recipe(name="r", epochs=2, lr=0.05, batch=128, weight_decay=1e-2)
    told: list[tuple[int, int]] = []
    train = {"threads": 1, "on_epoch": lambda e, n, loss: told.append((e, n))}
    teachers.train(tmp_path, "digits", "lenet5_half", recipe, 3, **train)
    assert told == [(1, 2), (2, 2)]
    got = load_file(cards.path_for(tmp_path, "digits", "lenet5_half", recipe, 3))

    with torch.random.fork_rng():
        torch.manual_seed(seed_for(3, "teacher"))
        net = build("lenet5_half", digits.task)
    rng = torch.Generator().manual_seed(seed_for(3, "teacher train"))
    loader = images.Loader(digits.train, digits.task, rng, torch.device("cpu"))
    speed = {k: torch.zeros_like(p) for k, p in net.named_parameters()}
    steps = 2 * (898 // 128)
    for t in range(steps):
        x, y = loader.batch(128)
        logits = net(x)
        loss = (logits.logsumexp(1) - logits[torch.arange(128), y]).mean()
        grads = torch.autograd.grad(loss, list(net.parameters()))
        lr = 0.05 * (1 + math.cos(math.pi * t / steps)) / 2
        with torch.no_grad():
            for (k, p), g in zip(net.named_parameters(), grads, strict=True):
                speed[k] = 0.9 * speed[k] + g + 1e-2 * p
                p -= lr * speed[k]
    for k, p in net.named_parameters():
        torch.testing.assert_close(got[k], p.detach(), rtol=1e-3, atol=1e-4)


def test_two_at_once_train_once(tmp_path):
    recipe, epochs = TINY.model_copy(update={"epochs": 2}), []
    train = {"threads": 1, "on_epoch": lambda *e: epochs.append(e)}
    with ThreadPoolExecutor(2) as pool:
        work = functools.partial(teachers.train, tmp_path, "digits", "lenet5_half", recipe, 0, **train)
        one, two = (done.result() for done in [pool.submit(work), pool.submit(work)])
    assert len(epochs) == 2 and one == two


@pytest.mark.parametrize("lost", [".json", ".safetensors"])
def test_killed_before_the_card_was_written_it_is_made_again(home, made, lost):
    path = cards.path_of(home, trial())
    path.with_suffix(lost).unlink()
    assert cards.find(home, trial()) is None
    again = teachers.train(home, "digits", NET, TINY, 0, threads=1)
    assert again.digest == made[1].digest == cards.find(home, trial()).digest


def test_killed_between_file_and_card_no_old_card_is_left_beside_a_new_file(home, monkeypatch):
    path, real = cards.path_of(home, trial()), Path.replace
    path.unlink()

    def die(self, target):
        if Path(target).suffix == ".json":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        teachers.train(home, "digits", NET, TINY, 0, threads=1)
    assert path.exists() and cards.find(home, trial()) is None


def test_a_teacher_of_another_version_of_the_splits_is_not_used(home, digits):
    """It may have been trained on what are test images now."""
    edit_card(cards.path_of(home, trial()), task_version=0)
    assert cards.find(home, trial()) is None
    refused(lambda: teachers.load(home, trial(), digits.task), "belongs to version 0 of digits, not 1")


def test_divergence_is_an_error_and_leaves_no_teacher(tmp_path):
    wild = Recipe(name="wild", epochs=1, lr=1e12, batch=64)
    train = functools.partial(teachers.train, tmp_path, "digits", "lenet5_half", wild, 0, threads=1)
    refused(train, "lenet5_half on digits diverged", "1e+12")
    assert [p.suffix for p in tmp_path.glob("*/*")] == [".lock"]


@pytest.mark.parametrize(("task", "net", "says"), [("digit", NET, "'digits'"), ("digits", "wrn", NET)])
def test_an_unknown_name_leaves_no_trace(tmp_path, task, net, says):
    refused(lambda: teachers.train(tmp_path, task, net, TINY, 0), says)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused(lambda: teachers.train(tmp_path / "file", "digits", NET, TINY, 0), str(tmp_path / "file"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demos_teacher_reaches_its_accuracy(tmp_path, seed):
    from harness.tasks.catalog import recipe

    card = teachers.train(tmp_path, "digits", "wrn16_2", recipe("default", "digits"), seed, threads=1)
    assert card.top1 >= 98.5


def test_accuracy_by_hand():
    class Looks(torch.nn.Module):
        def forward(self, x):  # says class 1 for a bright image
            assert not self.training
            bright = x.mean((1, 2, 3)) > 0.5
            return torch.stack([~bright, bright], 1).float()

    shades = np.array([0, 255, 255, 0, 100], dtype=np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (5, 1, 2, 2)).copy()
    split, net = Split(images, np.array([0, 1, 0, 1, 0])), Looks().train()
    assert teachers.accuracy(net, split, "cpu", batch=2) == 60.0
    assert net.training


# --- files and cards ----------------------------------------------------------------------------


def test_loaded_frozen_with_the_cards_normaliser_and_no_random_draw(home, digits):
    edit_card(cards.path_of(home, trial()), mean=[0.25], std=[0.75])
    before = torch.get_rng_state()
    net, _ = teachers.load(home, trial(), digits.task)
    assert torch.equal(torch.get_rng_state(), before)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert (net.mean.item(), net.std.item()) == (0.25, 0.75)


def _flip(path):
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_flip, "changed or damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:1000]), "changed or damaged"),
        (lambda p: p.write_bytes(b""), "changed or damaged"),
        (lambda p: p.unlink(), "missing at"),
        (lambda p: p.with_suffix(".json").unlink(), "has no card"),
        (lambda p: p.with_suffix(".json").write_text('{"task": "dig'), "is damaged"),
        (lambda p: edit_card(p, colour="red"), "colour"),
    ],
)
def test_a_damaged_teacher_is_refused_in_a_line(home, digits, spoil, says):
    path = cards.path_of(home, trial())
    spoil(path)
    refused(lambda: teachers.load(home, trial(), digits.task), says, path.stem)


class Payload:
    """Pickled, it creates a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_a_pickle_under_a_teachers_name_is_never_opened(home, tmp_path, digits):
    path, mark = cards.path_of(home, trial()), tmp_path / "ran"
    torch.save({"fc.weight": Payload(mark)}, path)
    edit_card(path, digest=cards.file_digest(path))  # whoever can write the file can write the card
    refused(lambda: teachers.load(home, trial(), digits.task), "not a safetensors file")
    assert not mark.exists()


def test_a_teacher_for_other_classes_does_not_fit(home):
    other = Task("digits", 1, 1, 8, tuple("abc"), (0.3,), (0.4,))
    refused(lambda: teachers.load(home, trial(), other), "does not fit wrn16_1 on digits")


def test_listing_goes_on_past_damage_and_says_so(home, made):
    path = cards.path_of(home, trial())
    for name, card in (("a-bad", "{"), ("b-bare", None)):
        path.with_name(f"{name}.safetensors").write_bytes(b"")
        if card is not None:
            path.with_name(f"{name}.json").write_text(card)
    assert cards.cards(home) == [made[1]]
    lines = cards.damaged(home)
    assert len(lines) == 2 and "a-bad.json is damaged" in lines[0] and "b-bare.safetensors has no" in lines[1]
    assert cards.by_digest(home, made[1].digest[:8]) == (path, made[1])
    refused(lambda: cards.by_digest(home, "zz"), "0 teachers")
    assert cards.cards(home / "nowhere") == []


def test_paths_keep_tasks_recipes_and_seeds_apart(tmp_path):
    tasks = ["digits", "folder:/a/b?side=32", "folder:/a-b?side=32", "folder:/../../etc"]
    folders = {cards.path_for(tmp_path, t, NET, TINY, 0).parent for t in tasks}
    assert len(folders) == 4 and all(f.parent == tmp_path for f in folders)
    longer = TINY.model_copy(update={"epochs": 4})
    names = {cards.path_for(tmp_path, "digits", NET, r, s).name for r in (TINY, longer) for s in (0, 1)}
    assert len(names) == 4
    imported = cards.path_of(tmp_path, trial(digest="ab" * 32))
    assert imported == tmp_path / "digits" / f"{NET}-import-abababababab.safetensors"


# --- verify -------------------------------------------------------------------------------------


def test_verified_once_per_digest_data_and_machine(home, made, digits, monkeypatch):
    card, calls = made[1], []
    real = teachers.accuracy
    monkeypatch.setattr(teachers, "accuracy", lambda *a: calls.append(1) or real(*a))
    (home / "verified.json").write_text("[torn")
    assert [teachers.verify(home, card, digits) for _ in range(2)] == [card.top1] * 2
    assert len(calls) == 1
    monkeypatch.setattr(teachers, "machine", lambda: "another machine")
    teachers.verify(home, card, digits)
    assert len(calls) == 2 and len(json.loads((home / "verified.json").read_text())) == 2


@pytest.mark.parametrize("off", [-0.4, 0.4, -0.6, 0.6])
def test_an_accuracy_half_a_point_off_its_card_is_refused(home, made, digits, off):
    edit_card(cards.path_of(home, trial()), top1=made[1].top1 + off)
    card = cards.find(home, trial())
    if abs(off) < 0.5:
        assert teachers.verify(home, card, digits) == made[1].top1
    else:
        says = f"{made[1].top1:.2f} %", f"{card.top1:.2f} %"
        refused(lambda: teachers.verify(home, card, digits), *says)
        assert not (home / "verified.json").exists()


def test_verified_or_not_the_digest_and_the_data_are_looked_at(home, made, digits):
    path, card = cards.path_of(home, trial()), made[1]
    teachers.verify(home, card, digits)
    edit_card(path, data_digest="0" * 64)
    says = f"was made with data {'0' * 12}, digits is now {digits.digest[:12]}"
    refused(lambda: teachers.verify(home, cards.find(home, trial()), digits), says)
    _flip(path)
    refused(lambda: teachers.verify(home, card, digits), "changed or damaged")


# --- importing: the published layouts -----------------------------------------------------------


def bn(name, c):
    return {f"{name}.weight": (c,), f"{name}.bias": (c,), f"{name}.running_mean": (c,),
            f"{name}.running_var": (c,), f"{name}.num_batches_tracked": ()}  # fmt: skip


def wrn_layout(depth, k, K, C=3):
    """``blockG.layer.I``: bn1, conv1, bn2, conv2, 1x1 ``convShortcut`` where widths differ; then bn1, fc."""
    keys = {"conv1.weight": (16, C, 3, 3)}
    c = 16
    for g in (1, 2, 3):
        for i in range((depth - 4) // 6):
            at, wide = f"block{g}.layer.{i}", 16 * k * 2 ** (g - 1)
            keys |= bn(f"{at}.bn1", c) | {f"{at}.conv1.weight": (wide, c, 3, 3)}
            keys |= bn(f"{at}.bn2", wide) | {f"{at}.conv2.weight": (wide, wide, 3, 3)}
            if c != wide:
                keys |= {f"{at}.convShortcut.weight": (wide, c, 1, 1)}
            c = wide
    return keys | bn("bn1", c) | {"fc.weight": (K, c), "fc.bias": (K,)}


def resnet_layout(blocks, K, C=3):
    """``layerG.I``: conv1, bn1, conv2, bn2, ``shortcut.0`` and ``.1`` where the width changes; ``linear``."""
    keys = {"conv1.weight": (64, C, 3, 3)} | bn("bn1", 64)
    c = 64
    for g, n in enumerate(blocks, 1):
        for i in range(n):
            at, wide = f"layer{g}.{i}", 64 * 2 ** (g - 1)
            keys |= {f"{at}.conv1.weight": (wide, c, 3, 3)} | bn(f"{at}.bn1", wide)
            keys |= {f"{at}.conv2.weight": (wide, wide, 3, 3)} | bn(f"{at}.bn2", wide)
            if c != wide:
                keys |= {f"{at}.shortcut.0.weight": (wide, c, 1, 1)} | bn(f"{at}.shortcut.1", wide)
            c = wide
    return keys | {"linear.weight": (K, c), "linear.bias": (K,)}


VGG = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg_layout(K, C=3):
    """``blockG.N`` counts conv, BN, ReLU; convs have biases; one ``classifier``."""
    keys, c = {}, C
    for g, widths in enumerate(VGG):
        for i, wide in enumerate(widths):
            keys |= {f"block{g}.{3 * i}.weight": (wide, c, 3, 3), f"block{g}.{3 * i}.bias": (wide,)}
            keys |= bn(f"block{g}.{3 * i + 1}", wide)
            c = wide
    return keys | {"classifier.weight": (K, c), "classifier.bias": (K,)}


def lenet_layout(K, C=1):
    """``features`` counts conv, ReLU, pool; ``fc`` counts linear, ReLU, linear."""
    return {"features.0.weight": (6, C, 5, 5), "features.0.bias": (6,), "features.3.weight": (16, 6, 5, 5),
            "features.3.bias": (16,), "features.6.weight": (120, 16, 5, 5), "features.6.bias": (120,),
            "fc.0.weight": (84, 120), "fc.0.bias": (84,),
            "fc.2.weight": (K, 84), "fc.2.bias": (K,)}  # fmt: skip


def draw(layout, seed=0):
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in layout.items():
        if key.endswith("tracked"):
            state[key] = torch.tensor(7)
        elif len(shape) > 1:
            state[key] = torch.randn(shape, generator=rng) * math.sqrt(2 / math.prod(shape[1:]))
        else:  # BN scales and variances must be positive, the rest may be so too
            state[key] = 0.5 + torch.rand(shape, generator=rng)
    return state


def norm(s, name, x):
    return F.batch_norm(
        x, s[f"{name}.running_mean"], s[f"{name}.running_var"], s[f"{name}.weight"], s[f"{name}.bias"]
    )


def wrn_forward(s, x):
    x = F.conv2d(x, s["conv1.weight"], padding=1)
    for g in (1, 2, 3):
        for i in range(2):
            at, stride = f"block{g}.layer.{i}", 2 if g > 1 and i == 0 else 1
            a = norm(s, f"{at}.bn1", x).relu()
            y = norm(s, f"{at}.bn2", F.conv2d(a, s[f"{at}.conv1.weight"], stride=stride, padding=1)).relu()
            y = F.conv2d(y, s[f"{at}.conv2.weight"], padding=1)
            short = s.get(f"{at}.convShortcut.weight")
            x = y + (x if short is None else F.conv2d(a, short, stride=stride))
    return F.linear(norm(s, "bn1", x).relu().mean((2, 3)), s["fc.weight"], s["fc.bias"])


def resnet_forward(s, x):
    x = norm(s, "bn1", F.conv2d(x, s["conv1.weight"], padding=1)).relu()
    for g in (1, 2, 3, 4):
        for i in range(2):
            at, stride = f"layer{g}.{i}", 2 if g > 1 and i == 0 else 1
            y = norm(s, f"{at}.bn1", F.conv2d(x, s[f"{at}.conv1.weight"], stride=stride, padding=1)).relu()
            y = norm(s, f"{at}.bn2", F.conv2d(y, s[f"{at}.conv2.weight"], padding=1))
            short = s.get(f"{at}.shortcut.0.weight")
            if short is not None:
                x = norm(s, f"{at}.shortcut.1", F.conv2d(x, short, stride=stride))
            x = (x + y).relu()
    return F.linear(x.mean((2, 3)), s["linear.weight"], s["linear.bias"])


def vgg_forward(s, x):
    for g, widths in enumerate(VGG):
        for i in range(len(widths)):
            x = F.conv2d(x, s[f"block{g}.{3 * i}.weight"], s[f"block{g}.{3 * i}.bias"], padding=1)
            x = norm(s, f"block{g}.{3 * i + 1}", x).relu()
        x = F.max_pool2d(x, 2) if g < 3 else x
    return F.linear(x.mean((2, 3)), s["classifier.weight"], s["classifier.bias"])


def lenet_forward(s, x):
    for i, n in enumerate((0, 3, 6)):
        x = F.conv2d(x, s[f"features.{n}.weight"], s[f"features.{n}.bias"]).relu()
        x = F.max_pool2d(x, 2) if i < 2 else x
    x = F.linear(x.flatten(1), s["fc.0.weight"], s["fc.0.bias"]).relu()
    return F.linear(x, s["fc.2.weight"], s["fc.2.bias"])


@pytest.mark.parametrize(
    ("net", "layout", "forward"),
    [
        ("wrn16_2", wrn_layout(16, 2, 10), wrn_forward),
        ("resnet18", resnet_layout((2, 2, 2, 2), 10), resnet_forward),
        ("vgg11", vgg_layout(10), vgg_forward),
        ("lenet5", lenet_layout(10), lenet_forward),
    ],
)
def test_a_published_layout_becomes_the_same_function(tmp_path, net, layout, forward):
    channels, side = (1, 32) if net == "lenet5" else (3, 16)
    task = Task("t", 1, channels, side, tuple("abcdefghij"), (0.4,) * channels, (0.2,) * channels)
    state, file = draw(layout), tmp_path / "cifar10_x.pth"
    torch.save(state, file)
    ours = build(net, task).eval()
    ours.load_state_dict(import_teacher.fit(import_teacher.read_state(file), ours, file))
    x = torch.rand(3, channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got, want = ours(x), forward(state, (x - 0.4) / 0.2)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize(
    ("net", "layout"),
    [
        ("wrn16_1", wrn_layout(16, 1, 100)),
        ("wrn40_1", wrn_layout(40, 1, 100)),
        ("wrn40_2", wrn_layout(40, 2, 100)),
        ("resnet34", resnet_layout((3, 4, 6, 3), 100)),
    ],
)
def test_every_key_of_the_deeper_nets_is_a_published_one(net, layout):
    task = Task("t", 1, 3, 32, tuple(map(str, range(100))), (0.5,) * 3, (0.5,) * 3)
    with torch.device("meta"):
        own = {k: tuple(v.shape) for k, v in build(net, task).state_dict().items()}
    assert {k: v for k, v in own.items() if k not in ("mean", "std")} == layout


# --- importing: whole files ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(made):
    """The tiny teacher's tensors under the published keys, as CMI's trainer would hold them."""
    own = load_file(cards.path_of(made[0], trial()))
    return {k: own[k].reshape(shape).clone() for k, shape in wrn_layout(16, 1, 10, C=1).items()}


def in_module(state):
    return {f"module.{k}": v for k, v in state.items()}


def take(home, state, **more):
    """Import a state dict that somebody saved."""
    file = home.with_name("theirs.pt")
    torch.save(state, file)
    return import_teacher.import_file(home, file, "digits", NET, **more)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"epoch": 200, "arch": NET, "state_dict": s, "best": 94.87, "optimizer": {"state": {}}},
        lambda s: {"state_dict": in_module(s)},
        lambda s: {"model": s},
        lambda s: {"net": in_module(s), "acc": 94.8},
        lambda s: {k: v for k, v in s.items() if not k.endswith("tracked")},
        lambda s: {k.replace("fc.", "linear."): v for k, v in s.items()},
    ],
)
def test_an_import_is_the_same_teacher(tmp_path, made, foreign, digits, wrap):
    card = take(tmp_path / "home", wrap(foreign))
    assert card.top1 == made[1].top1
    assert (card.source, card.origin, card.recipe, card.seed) == ("imported", "theirs.pt", None, None)
    wanted = trial(digest=card.digest)
    assert cards.find(tmp_path / "home", wanted) == card
    theirs, _ = teachers.load(tmp_path / "home", wanted, digits.task)
    ours, _ = teachers.load(made[0], trial(), digits.task)
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(theirs(x), ours(x))
    other = card.digest[:12] + "0" * 52  # same file name, another teacher
    refused(lambda: teachers.load(tmp_path / "home", trial(digest=other), digits.task), other)


def test_half_precision_becomes_single(tmp_path, foreign):
    half = {k: v.half() if v.is_floating_point() else v for k, v in foreign.items()}
    save_file(half, tmp_path / "half.safetensors")
    card = import_teacher.import_file(tmp_path, tmp_path / "half.safetensors", "digits", NET)
    stored = load_file(cards.path_of(tmp_path, trial(digest=card.digest)))
    assert stored["fc.weight"].dtype == torch.float32
    assert torch.equal(stored["fc.weight"], half["fc.weight"].float())


def test_other_constants_are_given_and_kept(tmp_path, made, foreign):
    """With twice our std the first weights would be twice as large: the same function of the image."""
    twice = foreign | {"conv1.weight": 2 * foreign["conv1.weight"]}
    card = take(tmp_path / "a", twice, normalise="0.3035/0.7486")
    assert card.top1 == made[1].top1
    assert card.mean == pytest.approx((0.3035,)) and card.std == pytest.approx((0.7486,))
    # a file of ours holds its own constants
    ours = cards.path_of(tmp_path / "a", trial(digest=card.digest))
    again = import_teacher.import_file(tmp_path / "b", ours, "digits", NET)
    assert (again.mean, again.std, again.top1) == (card.mean, card.std, card.top1)
    wrong = take(tmp_path / "c", twice)
    assert wrong.digest != card.digest and wrong.std == pytest.approx((0.3743,))


@pytest.mark.parametrize(
    ("text", "channels", "means", "stds"),
    [
        ("cifar10", 3, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        (".5,.5,.5/.5,.25,1", 3, (0.5, 0.5, 0.5), (0.5, 0.25, 1.0)),
        ("mnist", 1, (0.1307,), (0.3081,)),
    ],
)
def test_normaliser_by_name_or_numbers(text, channels, means, stds):
    assert import_teacher.normaliser(text, channels) == (means, stds)


@pytest.mark.parametrize(
    "text", ["cifar1", "0.5", "0.5/0.5/0.5", "a/b", "cifar10", "0.5/0", "0.5/-1", "nan/1", "0/inf"]
)
def test_a_normaliser_that_cannot_be(text):
    refused(lambda: import_teacher.normaliser(text, 1), repr(text))


def test_keys_that_do_not_fit_are_named(tmp_path, foreign):
    lacking = {k: v for k, v in foreign.items() if not k.startswith("block3.layer.1.")}
    lacking |= {"fc.weight": torch.zeros(100, 64), "fc.bias": torch.zeros(100), "stem.weight": torch.zeros(1)}
    refused(
        lambda: take(tmp_path / "home", lacking),
        # bn1 and bn2 with four tensors each (their counters may be absent), conv1, conv2
        "10 keys missing (block3.layer.1.bn1.bias, ",
        "and 7 more",
        "1 keys unexpected (stem.weight)",
        "2 keys of another shape (fc.bias (100,) for (10,), fc.weight (100, 64) for (10, 64))",
    )
    assert not (tmp_path / "home").exists()


def _cut(file):
    torch.save({"fc.weight": torch.zeros(10000)}, file)
    file.write_bytes(file.read_bytes()[:20000])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda f: torch.save({"state_dict": {}, "x": Payload(f.with_name("ran"))}, f), "could run code"),
        (lambda f: torch.save(torch.nn.Linear(2, 2), f), "could run code"),
        (lambda f: f.write_bytes(pickle.dumps(Payload(f.with_name("ran")))), "could run code"),
        (lambda f: f.write_text("<!DOCTYPE html><title>Quota exceeded</title>"), "web page"),
        (lambda f: f.write_bytes(b""), "damaged"),
        (lambda f: f.write_bytes(bytes(range(256)) * 9), "damaged"),
        (_cut, "damaged"),
        (lambda f: torch.save(torch.zeros(3), f), "no state dict"),
        (lambda f: torch.save({"state_dict": {"epoch": 3}}, f), "no state dict"),
        (lambda f: f.mkdir(), "cannot be read"),
        (lambda f: None, "cannot be read: No such file"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_state_dict(tmp_path, write, says, suffix):
    file = tmp_path / f"theirs{suffix}"
    write(file)
    says = (str(file), *([says] if suffix == ".pth" else []))
    refused(lambda: import_teacher.import_file(tmp_path / "home", file, "digits", NET), *says)
    assert not (tmp_path / "ran").exists()


def test_weights_that_know_nothing_or_are_not_numbers_are_refused(tmp_path, foreign):
    random = draw(wrn_layout(16, 1, 10, C=1))
    refused(lambda: take(tmp_path / "home", random), "no more than chance")
    spoilt = foreign | {"fc.bias": torch.full((10,), math.nan)}
    refused(lambda: take(tmp_path / "home", spoilt), "not finite", "fc.bias")
    assert not (tmp_path / "home").exists()
