"""Loss terms as pure functions, in the symbols of the papers.

``t``, ``s``: teacher and student logits (B, K). ``h``: features (B, D). ``y``: labels (B,). Every function
returns a scalar, and gradients flow into every argument that carries them: detach at the call where the
equation says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def kl(t: Tensor, s: Tensor, tau: float = 1.0) -> Tensor:
    """KL(p_t || p_s) at temperature tau, summed over classes, mean over samples.

    Hinton, Vinyals and Dean, arXiv 1503.02531, without the tau^2. Zero when s = t; never negative.
    """
    log_t, log_s = F.log_softmax(t / tau, dim=1), F.log_softmax(s / tau, dim=1)
    return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)


def kd(t: Tensor, s: Tensor, tau: float) -> Tensor:
    """tau^2 KL(p_t || p_s): gradients keep their size when tau changes (arXiv 1503.02531, section 2)."""
    return tau * tau * kl(t, s, tau)


def l2(s: Tensor, t: Tensor) -> Tensor:
    """Mean squared distance of logits over all B x K entries (the L2 of CPSC's L_IKD)."""
    return F.mse_loss(s, t)


def l1(s: Tensor, t: Tensor) -> Tensor:
    """Mean absolute distance of logits over all B x K entries (DFAD, arXiv 1912.11006)."""
    return F.l1_loss(s, t)


def log_mse(s: Tensor, t: Tensor) -> Tensor:
    """Log of `l2`: what CPSC's released code gives the generator where K = 10 (CPSC_DFKD.py:70)."""
    return l2(s, t).log()


def log_fro(s: Tensor, t: Tensor) -> Tensor:
    """Log of the Frobenius norm of the difference: the student's side of the same (CPSC_DFKD.py:111)."""
    return torch.linalg.vector_norm(s - t).log()


def ce(u: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits u and labels y, mean over samples."""
    return F.cross_entropy(u, y)


def ce_of_softmax(u: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy that is fed a softmax and applies another: CPSC's released code (CPSC_DFKD.py:86, 117).

    For K classes it lies between log(e + K - 1) - 1 and log(e + K - 1), so it can hardly push.
    """
    return F.cross_entropy(u.softmax(dim=1), y)


def one_hot(t: Tensor) -> Tensor:
    """Cross-entropy of the teacher with its own arg-max (DAFL, arXiv 1904.01186, L_oh)."""
    return F.cross_entropy(t, t.argmax(dim=1))


def activation(h: Tensor) -> Tensor:
    """-mean |h| over B x D: large features are wanted (DAFL, L_a)."""
    return -h.abs().mean()


def class_balance(t: Tensor, base: float = math.e) -> Tensor:
    """Negative entropy of the mean prediction: sum_k p_k log p_k, least when classes are balanced.

    DAFL's L_ie; its code takes base 10, DataFree's copy the natural logarithm.
    """
    log_p = torch.logsumexp(F.log_softmax(t, dim=1), dim=0) - math.log(t.shape[0])
    return (log_p.exp() * log_p).sum() / math.log(base)


def scl(h: Tensor, y: Tensor, tau: float) -> Tensor:
    """Supervised contrastive loss over rows of unit length (Khosla et al., arXiv 2004.11362, L_out).

    Every row is an anchor; its positives are all other rows with its label; the denominator runs over all
    other rows; mean over positives, then over anchors that have a positive. The order of rows is irrelevant.

    Args:
        h: (N, D) rows of unit length; for two views, stack both and repeat y.
        y: (N,) labels.
        tau: temperature.
    """
    sim = h @ h.T / tau
    self_pair = torch.eye(len(y), dtype=torch.bool, device=y.device)
    log_p = sim - sim.masked_fill(self_pair, -torch.inf).logsumexp(dim=1, keepdim=True)
    positive = ((y[:, None] == y[None, :]) & ~self_pair).to(sim.dtype)
    count = positive.sum(dim=1)
    per_anchor = -(positive * log_p).sum(dim=1) / count.clamp(min=1)
    return per_anchor.sum() / (count > 0).sum().clamp(min=1)


def kl_mean(t: Tensor, s: Tensor) -> Tensor:
    """KL(p_t || p_s) averaged over all B x K entries: `kl` / K (ZSKT's reduction, arXiv 1905.09768)."""
    return kl(t, s) / t.shape[1]


def kl_agreeing(t: Tensor, s: Tensor) -> Tensor:
    """KL(p_t || p_s) of the samples on which S and T agree, divided by all B (CMI, arXiv 2105.08584).

    The mask carries no gradient; zero where they agree nowhere.
    """
    log_t, log_s = F.log_softmax(t, dim=1), F.log_softmax(s, dim=1)
    each = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(dim=1)
    return (each * (t.argmax(dim=1) == s.argmax(dim=1))).mean()


def js(t: Tensor, s: Tensor, tau: float = 3.0) -> Tensor:
    """Jensen-Shannon divergence of the softmaxes at temperature tau, mean over samples, in [0, log 2].

    (KL(P||M) + KL(Q||M)) / 2 with M = (P + Q) / 2; symmetric, zero when s = t.
    """
    log_p, log_q = F.log_softmax(t / tau, dim=1), F.log_softmax(s / tau, dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    p, q = (F.kl_div(log_m, u, reduction="batchmean", log_target=True) for u in (log_p, log_q))
    return 0.5 * (p + q)


def js_clamped(t: Tensor, s: Tensor, tau: float = 3.0) -> Tensor:
    """What DeepInversion's released code calls JS: P, Q, M clamped to [0.01, 0.99], KL's arguments swapped.

    (KL(M||P) + KL(M||Q)) / 2, mean over samples (NVlabs/DeepInversion 2413af1). The clamp zeroes the gradient
    of every entry below 0.01.
    """
    p, q = (F.softmax(u / tau, dim=1).clamp(0.01, 0.99) for u in (t, s))
    m = (0.5 * (p + q)).clamp(0.01, 0.99)
    return 0.5 * torch.stack([F.kl_div(u.log(), m, reduction="batchmean") for u in (p, q)]).sum()


def attention(s: Sequence[Tensor], t: Sequence[Tensor]) -> Tensor:
    """Attention transfer: sum over stages of the mean squared difference of unit attention maps.

    A map is the channel mean of squared activations, flattened to (B, H W), of unit length (Zagoruyko and
    Komodakis, arXiv 1612.03928, as ZSKT's code has it: the mean runs over all B H W entries).

    Args:
        s: the student's activations, one (B, C, H, W) a stage.
        t: the teacher's, of the same H and W; C may differ.
    """
    return torch.stack([F.mse_loss(_attention(a), _attention(b)) for a, b in zip(s, t, strict=True)]).sum()


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.float().square().mean(dim=1).flatten(1), dim=1)


def instance(a: Tensor, b: Tensor, tau: float, current: int) -> Tensor:
    """Instance discrimination: row i of ``a`` should be nearest to row i of ``b`` (CMI, arXiv 2105.08584).

    Cross-entropy of a b' / tau with the diagonal as target, averaged over the first ``current`` rows and over
    the others (the memory bank) apart, and added.

    Args:
        a: (N, D) rows of unit length.
        b: (N, D) rows of unit length; detach them where the equation does.
        tau: temperature.
        current: rows of this batch, 1 to N.
    """
    each = F.cross_entropy(a @ b.T / tau, torch.arange(len(a), device=a.device), reduction="none")
    return each[:current].mean() + (each[current:].mean() if len(a) > current else 0.0)
