"""How a sub-network learns from the largest one: divergences of the student's distribution q from the teacher's p."""

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHAS = (-1.0, 1.0)  # AlphaNet's: one punishes too little spread of the student, the other too much
CLIP = 5.0  # of importance weights (p / q)^alpha, which are heavy-tailed


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(p || q) from logits [B, classes], mean over images."""
    return F.kl_div(F.log_softmax(student, 1), F.log_softmax(teacher, 1), reduction="batchmean", log_target=True)


def alpha(student: Tensor, teacher: Tensor, alphas: tuple[float, ...] = ALPHAS, clip: float = CLIP) -> Tensor:
    """The larger of two clipped alpha-divergences an image (Wang et al., AlphaNet, ICML 2021), mean over images.

    D_a(p || q) = E_q[(p / q)^a - 1] / (a (a - 1)), with its limits at 0 and 1. Its gradient is that of
    -E_q[rho(p / q) log q] with rho(r) = r f'(r) - f(r) held fixed, which is r^a / a and a constant that does nothing;
    there the weights are clipped. The value returned is the divergence's, the gradient the clipped one's.
    """
    log_q, log_p = F.log_softmax(student, 1), F.log_softmax(teacher, 1)
    q, ratio = log_q.exp(), (log_p - log_q).detach()
    values, gradients = [], []
    for a in alphas:
        weight = (a * ratio).exp().clamp_max(clip)
        if a == 1:
            f, rho = weight * ratio, weight
        elif a == 0:
            f, rho = -ratio, ratio
        else:
            f, rho = (weight - 1) / (a * (a - 1)), weight / a
        values.append((q.detach() * f).sum(1))
        gradients.append(-(rho * q).sum(1))
    worst = torch.stack(values).argmax(0, keepdim=True)
    value, gradient = (torch.stack(v).gather(0, worst).mean() for v in (values, gradients))
    return value + gradient - gradient.detach()


DIVERGENCES = {"kl": kl, "alpha": alpha}
