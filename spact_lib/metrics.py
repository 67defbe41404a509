"""Scores of targets, each with its chance line. The metrics are torchmetrics'; the chance lines are ours."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_f1_score,
    multiclass_accuracy,
)

from spact_lib.chance import chance_average_precision
from spact_lib.errors import UserError


def single_label_metrics(probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """Top-1 in percent, and the accuracy of always answering the most frequent class.

    Args:
        probabilities: (N, K).
        targets: (N,) int64.
    """
    top1 = multiclass_accuracy(probabilities, targets, num_classes=probabilities.shape[1], average="micro")
    majority = torch.bincount(targets).max() / len(targets)
    return {"top1": 100 * top1.item(), "top1_chance": 100 * majority.item(), "n_test": len(targets)}


def multi_label_metrics(probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """Class-wise mean AP (percent) and F1, over classes with a positive, with their chance lines.

    Args:
        probabilities: (N, K) in [0, 1].
        targets: (N, K) multi-hot.

    Returns:
        ``cmap``, ``cmap_chance`` (random ranking), ``f1`` (present = probability > 0.5), ``f1_official`` (the official
        code's raw logit > 0.5), ``f1_chance`` (always present), ``n_classes`` (with positives), ``n_test``, and
        ``ap`` (list of K, NaN without positives).

    Raises:
        UserError: no class has a positive, so there is nothing to score.
    """
    n, k = targets.shape
    targets = targets.long()
    present = torch.nonzero(targets.sum(0)).flatten().tolist()
    if not present:
        raise UserError(f"none of the {k} classes occurs in the {n} rows to score; give their splits labelled rows")
    # Class by class: torchmetrics' multi-label functions refuse a task of one class, and a class without positives
    # has no AP.
    columns = [(probabilities[:, c], targets[:, c]) for c in present]
    ap = torch.full((k,), torch.nan)
    ap[present] = torch.stack([binary_average_precision(*column) for column in columns]).cpu()

    def f1(threshold: float) -> float:
        return torch.stack([binary_f1_score(*column, threshold=threshold) for column in columns]).mean().item()

    positives = targets[:, present].sum(0).cpu().numpy()
    return {
        "cmap": 100 * ap[present].mean().item(),
        "cmap_chance": 100 * float(np.mean([chance_average_precision(m, n) for m in positives])),
        "f1": f1(0.5),
        "f1_official": f1(torch.sigmoid(torch.tensor(0.5)).item()),
        "f1_chance": float(np.mean(2 * positives / (n + positives))),
        "n_classes": len(present),
        "n_test": n,
        "ap": [100 * value for value in ap.tolist()],
    }


def per_video(probabilities: Tensor, targets: Tensor, videos: np.ndarray) -> tuple[Tensor, Tensor]:
    """Frames to videos: the mean probability of a video's frames; an attribute is present if it is in any of them.

    Args:
        probabilities: (N, K).
        targets: (N, K) multi-hot, or (N,) int64.
        videos: (N,) the name of each frame's video.

    Returns:
        The same two, (videos, K) and (videos, K) or (videos,), in the order of the sorted names.

    Raises:
        UserError: a video's frames have several single labels.
    """
    names, which = np.unique(videos.astype(str), return_inverse=True)

    def joined(x: Tensor, how: str) -> Tensor:
        index = torch.from_numpy(which).unflatten(0, (-1, *[1] * (x.ndim - 1))).expand_as(x)
        return x.new_zeros(len(names), *x.shape[1:]).scatter_reduce(0, index, x, how, include_self=False)

    labels = joined(targets, "amax")
    if targets.ndim == 1 and (several := labels != joined(targets, "amin")).any():
        raise UserError(
            f"video {names[several.numpy()][0]} has rows of several classes, so no answer as a whole; score its rows"
        )
    return joined(probabilities, "mean"), labels


def score(probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """The metrics for the kind of task, by the shape of the targets."""
    metrics = single_label_metrics if targets.dim() == 1 else multi_label_metrics
    return metrics(probabilities, targets)


def prediction_loss(probabilities: Tensor, targets: Tensor) -> float:
    """L_T or L_B of probabilities, in nats: cross entropy, or binary cross entropy as a mean over all classes.

    Args:
        probabilities: (N, K).
        targets: (N,) int64 or (N, K) multi-hot.
    """
    # From float32 probabilities nothing smaller can be told from 0, and one wrong certainty must not give infinity.
    eps = torch.finfo(torch.float32).eps
    p = probabilities.clamp(eps, 1 - eps)
    if targets.dim() == 1:
        return F.nll_loss(p.log(), targets).item()
    return F.binary_cross_entropy(p, targets.to(p.dtype)).item()


def headline(metrics: dict[str, float]) -> float:
    """The number by which validation chooses: top-1, or cMAP."""
    return metrics[headline_name(metrics)]


def headline_chance(metrics: dict[str, float]) -> float:
    """Its chance line."""
    return metrics[f"{headline_name(metrics)}_chance"]


def headline_name(metrics: dict[str, float]) -> str:
    """Which of these metrics is the headline."""
    return "top1" if "top1" in metrics else "cmap"
