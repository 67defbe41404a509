"""The losses: Eq. 4 (reconstruction), Eq. 5 (NT-Xent), MoCo's, L_T, TeD-SPAD's triplets, the supervised L_B of [41]."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def l1_reconstruction(frames: Tensor, reconstructed: Tensor) -> Tensor:
    """Eq. 4 as a mean over pixels instead of a sum, so that thresholds do not depend on the frame size."""
    return F.l1_loss(reconstructed, frames)


def nt_xent(z: Tensor, z_prime: Tensor, temperature: float = 0.1, both_directions: bool = True) -> Tensor:
    """NT-Xent of Eq. 5: agreement of the two frames of a video against all other frames in the batch.

    Args:
        z, z_prime: projections of the first and second frame of each video, (N, D), any norm.
        temperature: tau > 0.
        both_directions: average the anchors Z and Z' (SimCLR, the official code); False: Z only, as Eq. 5 is printed.

    Returns:
        Scalar; log(2N - 1) where the projections carry no information (``nt_xent_uninformative``).

    Raises:
        ValueError: N < 2 (there would be no negatives and the loss would be constant), or shapes differ, or tau <= 0.
    """
    if z.dim() != 2 or z.shape != z_prime.shape:
        raise ValueError(f"NT-Xent takes two tensors of one shape (N, D), got {tuple(z.shape)}, {tuple(z_prime.shape)}")
    if z.shape[0] < 2:
        raise ValueError("NT-Xent needs at least 2 videos in a batch: with one there are no negatives")
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(z.device.type, enabled=False):  # bfloat16 keeps 3 digits; divided by tau, too few
        return eq_5(
            *(v.to(torch.promote_types(v.dtype, torch.float32)) for v in (z, z_prime)), temperature, both_directions
        )


def eq_5(z: Tensor, z_prime: Tensor, temperature: float, both_directions: bool) -> Tensor:
    """``nt_xent`` of tensors that it has checked, in float32 or better."""
    z, z_prime = F.normalize(z, dim=1), F.normalize(z_prime, dim=1)
    n = z.shape[0]
    itself = torch.eye(n, dtype=torch.bool, device=z.device)
    across = z @ z_prime.T / temperature  # (N, N); the diagonal holds the positives h(Z_i, Z'_i)
    within = (z @ z.T / temperature).masked_fill(itself, -torch.inf)  # 1[j != i]
    labels = torch.arange(n, device=z.device)
    loss = F.cross_entropy(torch.cat([across, within], dim=1), labels)
    if both_directions:
        within = (z_prime @ z_prime.T / temperature).masked_fill(itself, -torch.inf)
        loss = (loss + F.cross_entropy(torch.cat([across.T, within], dim=1), labels)) / 2
    return loss


def nt_xent_uninformative(n: int) -> float:
    """NT-Xent when every frame is projected to the same point: log(2N - 1). Above it, pairs are anti-aligned."""
    return math.log(2 * n - 1)


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float = 0.1) -> Tensor:
    """MoCo's loss: each query against its own key and a queue of other keys.

    Args:
        queries, keys: (N, D), any norm.
        negatives: (K, D), any norm.

    Returns:
        Scalar; log(1 + K) where the projections carry no information.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys, negatives = (F.normalize(v.float(), dim=1) for v in (queries, keys, negatives))
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ negatives.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.long, device=queries.device))


def triplet_margin(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """TeD-SPAD's term of L_T: mean of max(0, |anchor - positive| - |anchor - negative| + margin), Euclidean distances.

    Args:
        anchor, positive, negative: features (N, D).
    """
    with torch.autocast(anchor.device.type, enabled=False):  # differences of features need float32
        return F.triplet_margin_loss(anchor.float(), positive.float(), negative.float(), margin)


def classification_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """L_T, and L_B of the supervised baseline [41]: by the dtype of the targets.

    Args:
        logits: (N, K).
        targets: (N,) int64 class indices -> cross entropy; (N, K) multi-hot -> binary cross entropy.
    """
    if targets.dim() == 1:
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
