"""f'_T and f'_B: fresh networks trained on a release to measure what it keeps and what it leaks (Sec. 4)."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spact_lib.config import TargetSpec
from spact_lib.data import ClipDataset, FrameSource, rows_of, test_batches, to_float, training_batches
from spact_lib.device import autocast
from spact_lib.errors import UserError
from spact_lib.losses import classification_loss
from spact_lib.manifest import Manifest
from spact_lib.metrics import headline, score
from spact_lib.networks.action import ACTION_NETWORKS, build_action_network
from spact_lib.networks.privacy import PrivacyNetwork
from spact_lib.training import Run, adam, save_weights, seed_weights, set_learning_rate

FRESH = 1_000_000  # added to the seed of a target's batches


class FrameClassifier(nn.Module):
    """f'_B: a privacy network on single frames (B, 1, C, H, W) -> logits (B, K), averaged over its encoders."""

    def __init__(self, name: str, n_classes: int):
        super().__init__()
        self.body = PrivacyNetwork(name, n_classes)

    def forward(self, clips: Tensor) -> Tensor:
        return self.body(clips.flatten(0, 1)).mean(0)  # (B, 1, C, H, W) -> (M, B, K) -> (B, K)


def build_target(name: str, n_classes: int) -> tuple[nn.Module, int]:
    """A network by name and whether it is 2-D or 3-D."""
    if name in ACTION_NETWORKS:
        return build_action_network(name, n_classes), 3
    return FrameClassifier(name, n_classes), 2


@torch.no_grad()
def predict(network: nn.Module, dims: int, dataset: ClipDataset, device: torch.device, workers: int = 0) -> Tensor:
    """Probabilities (rows, K): softmax or sigmoid by the task's kind, averaged over the test clips of a row."""
    network.eval()
    multi = dataset.labels is not None and dataset.labels.ndim == 2
    scores = []
    for batch in test_batches(dataset, 128, workers):
        with autocast(device, "float32", dims):
            logits = network(to_float(batch, device)["clip"])
        scores.append(logits.sigmoid() if multi else logits.softmax(1))
    return torch.cat(scores).cpu().unflatten(0, (len(dataset), -1)).mean(1)


def train_target(
    spec: TargetSpec,
    source: FrameSource,
    manifest: Manifest,
    folder: Path,
    device: torch.device,
    workers: int = 0,
    test: tuple[FrameSource, Manifest] | None = None,
) -> dict[str, object]:
    """Train on the train rows, choose the checkpoint on the val rows, score the test rows once.

    Without val rows the last step is taken: nothing is ever chosen on test.

    Args:
        test: frames and manifest of ``spec.test``, whose test rows take the place of the dataset's own.

    Returns:
        metrics of the test rows (``metrics.score``), ``val`` (headline on validation, None without), ``chosen_step``,
        ``seconds``; the chosen weights are saved in ``network.safetensors``, test probabilities and targets in
        ``predictions.npz``.

    Raises:
        UserError: the classes of the test task are others than those learned.
    """
    sides = {"train": (source, manifest, spec.task), "val": (source, manifest, spec.task)}
    sides["test"] = (*test, spec.test.task) if test else sides["train"]
    learned, asked = (sides[split][1].tasks[sides[split][2]] for split in ("train", "test"))
    if (learned.kind, learned.classes) != (asked.kind, asked.classes):
        raise UserError(
            f"task {asked.name!r} of {sides['test'][1].name!r} has other classes than task {learned.name!r} of "
            f"{manifest.name!r}; a target is tested on the classes it learned"
        )
    # Neither the first weights (role 3) nor the batches of f_T or f_B, whatever the seeds: f_A must never have met it.
    seed = spec.seed + FRESH
    parts = {
        split: ClipDataset(frames, rows_of(table, split), table.labels(task), spec.view, seed=seed)
        for split, (frames, table, task) in sides.items()
    }
    seed_weights(spec.seed, 3)
    network, dims = build_target(spec.network, manifest.tasks[spec.task].n_classes)
    network.to(device)
    best = deepcopy(network)
    optimizer = adam(network, spec.schedule)
    run = Run(folder, {"network": network, "best": best}, {"network": optimizer}, f"target {spec.task}")
    total, has_val = spec.schedule.steps, len(parts["val"]) > 0
    evaluate_at = {round(total * (k + 1) / spec.evaluations) - 1 for k in range(spec.evaluations)}
    batches = iter(training_batches(parts["train"], spec.schedule.batch, run.step, total, workers))
    for step in run.steps(total):
        batch = to_float(next(batches), device)
        set_learning_rate(optimizer, spec.schedule, step)
        network.train()
        with autocast(device, "float32", dims):
            loss = classification_loss(network(batch["clip"]), batch["label"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        row = {"loss": loss.item()}
        if step in evaluate_at and has_val:
            row["val"] = headline(score(predict(network, dims, parts["val"], device), _targets(parts["val"])))
        if step in evaluate_at and (not has_val or row["val"] >= _best_val(run.rows)):
            best.load_state_dict(network.state_dict())
        run.log(step, **row)
    probabilities, targets = predict(best, dims, parts["test"], device, workers), _targets(parts["test"])
    save_weights(best, folder / "network.safetensors")
    np.savez_compressed(folder / "predictions.npz", probabilities=probabilities.numpy(), targets=targets.numpy())
    chosen = max((r for r in run.rows if "val" in r), key=lambda r: (r["val"], r["step"]), default=None)
    return {
        **score(probabilities, targets),
        "val": chosen["val"] if chosen else None,
        "chosen_step": chosen["step"] + 1 if chosen else total,
        "seconds": run.seconds,
    }


def _best_val(rows: list[dict[str, float]]) -> float:
    return max((row["val"] for row in rows if "val" in row), default=-np.inf)


def _targets(dataset: ClipDataset) -> Tensor:
    return torch.from_numpy(dataset.labels[dataset.rows])
