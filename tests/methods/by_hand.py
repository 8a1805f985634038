"""What the tests of rounds share: the equations written down a second time, without the code under test."""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from harness.trials.toy import TOY, toy_method, toy_problem


def stream(method):
    """The method's train stream as it stands, to be drawn from beside it."""
    return torch.Generator().set_state(method.problem.rng.get_state())


def task(**changes):
    """The toy task, changed."""
    return dataclasses.replace(TOY, **changes)


def on(name, settings=None, seed=0, **changes):
    """A method on a changed toy task."""
    return toy_method(name, settings, seed, toy_problem(seed, task=task(**changes)))


def weights(module):
    """Copies of a module's parameters, in order."""
    return [p.detach().clone() for p in module.parameters()]


def moved(before, module):
    """Whether any parameter differs."""
    return any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def close_moves(before, ours, expected, rel=1e-3):
    """Whether two sets of parameters that started at ``before`` moved alike."""
    gap = sum(((a - b) ** 2).sum() for a, b in zip(ours, expected, strict=True)).sqrt()
    way = sum(((a - b) ** 2).sum() for a, b in zip(before, expected, strict=True)).sqrt()
    return way > 0 and gap <= rel * way


def kl(t, s):
    """KL(softmax t || softmax s), mean over samples."""
    p, q = t.softmax(1), s.softmax(1)
    return (p * (p.log() - q.log())).sum(1).mean()


def ce(u, y):
    """Cross-entropy of logits."""
    return -u.log_softmax(1)[torch.arange(len(y)), y].mean()


def balance(t):
    """sum p log p of the mean prediction, natural logarithm."""
    p = t.softmax(1).mean(0)
    return (p * p.log()).sum()


def attention(a, b):
    """Mean squared distance of unit attention maps of one stage."""
    qa, qb = (m.pow(2).mean(1).flatten(1) for m in (a, b))
    qa, qb = (q / q.pow(2).sum(1, keepdim=True).sqrt() for q in (qa, qb))
    return (qa - qb).pow(2).mean()


@contextmanager
def bn_inputs(net):
    """Inputs of every BatchNorm layer, a list a forward, caught by hooks: independent of our taps."""
    calls = []
    layers = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    def keep(_, args):
        if calls and len(calls[-1]) < len(layers):  # else it is the meter, which measures a copy first
            calls[-1].append(args[0])

    handles = [net.register_forward_pre_hook(lambda *_: calls.append([]))]
    handles += [m.register_forward_pre_hook(keep) for m in layers]
    try:
        yield calls
    finally:
        for h in handles:
            h.remove()


@contextmanager
def inputs(net):
    """What a network is shown, one tensor a forward."""
    seen = []
    handle = net.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    try:
        yield seen
    finally:
        handle.remove()


def moments(z):
    """Mean and biased variance of each channel."""
    flat = z.transpose(0, 1).flatten(1)
    return flat.mean(1), flat.var(1, unbiased=False)


def bns(net, x, first=1.0):
    """BNS of a batch."""
    with bn_inputs(net) as calls:
        net(x)
    layers = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    each = []
    for layer, z in zip(layers, calls[0], strict=True):
        mean, var = moments(z)
        each.append((layer.running_var - var).norm() + (layer.running_mean - mean).norm())
    return first * each[0] + sum(each[1:])


def cropped(x, most, rng):
    """Random crops as slices of the padded images."""
    n, _, height, width = x.shape
    dy, dx = torch.randint(2 * most + 1, (2, n), generator=rng).tolist()
    wide = pad(x, (most,) * 4)
    return torch.stack([wide[i, :, dy[i] : dy[i] + height, dx[i] : dx[i] + width] for i in range(n)])


def gradients(loss, module):
    """Gradients of a module's parameters."""
    return list(torch.autograd.grad(loss, list(module.parameters())))


class Adam:
    """Adam in numpy (Kingma and Ba, arXiv 1412.6980, algorithm 1)."""

    def __init__(self, values, lr, betas=(0.9, 0.999), eps=1e-8):
        self.values = [v.detach().double().numpy().copy() for v in values]
        self.lr, self.betas, self.eps, self.t = lr, betas, eps, 0
        self.m = [np.zeros_like(v) for v in self.values]
        self.v = [np.zeros_like(v) for v in self.values]

    def step(self, grads):
        self.t += 1
        b1, b2 = self.betas
        for i, g in enumerate(g.detach().double().numpy() for g in grads):
            self.m[i] = b1 * self.m[i] + (1 - b1) * g
            self.v[i] = b2 * self.v[i] + (1 - b2) * g**2
            m, v = self.m[i] / (1 - b1**self.t), self.v[i] / (1 - b2**self.t)
            self.values[i] -= self.lr * m / (np.sqrt(v) + self.eps)
        return [torch.tensor(v, dtype=torch.float32) for v in self.values]


def terms_are(expected, got, rel=1e-4):
    """A step had these terms and no other, near enough to what they are by hand."""
    assert set(got) == set(expected)
    for k, v in expected.items():
        assert got[k].item() == pytest.approx(v.item(), rel=rel, abs=1e-6), k


def rows_of(pool):
    """What a pool holds, in slot order."""
    return {k: pool.column(k).clone() for k in pool.fields}
