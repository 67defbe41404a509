"""f'_T and f'_B: fresh networks trained on a release to measure what it keeps and what it leaks (Sec. 4)."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from spact_lib import distributed
from spact_lib.config import ScoreSpec, TargetSpec, TestSpec, View
from spact_lib.data import ClipDataset, FrameSource, centre_crop, rows_of, test_batches, to_float, training_batches
from spact_lib.device import autocast
from spact_lib.errors import UserError
from spact_lib.files import atomic_path
from spact_lib.losses import classification_loss
from spact_lib.manifest import Manifest
from spact_lib.metrics import headline, per_video, prediction_loss, score
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
    scores = distributed.gathered([each.cpu() for each in scores])
    return torch.cat(scores).unflatten(0, (len(dataset), -1)).mean(1)


def train_target(
    spec: TargetSpec,
    source: FrameSource,
    manifest: Manifest,
    folder: Path,
    device: torch.device,
    workers: int = 0,
) -> dict[str, object]:
    """Train on the train rows, choose the checkpoint on the val rows, score the test rows once, where there are some.

    Without val rows the last step is taken: nothing is ever chosen on test.

    Returns:
        metrics of the test rows (``metrics.score``), ``val`` (headline on validation, None without), ``chosen_step``,
        ``Run.course``; the chosen weights are saved in ``network.safetensors``, test probabilities and targets in
        ``predictions.npz``.
    """
    # Neither the first weights (role 3) nor the batches of f_T or f_B, whatever the seeds: f_A must never have met it.
    seed = spec.seed + FRESH
    labels = manifest.sparse_labels(spec.task)
    parts = {
        split: ClipDataset(source, rows_of(manifest, split), labels, spec.view, seed=seed)
        for split in ("train", "val", "test")
        if split != "test" or (manifest.rows["split"] == "test").any()
    }
    seed_weights(spec.seed, 3)
    network, dims = build_target(spec.network, manifest.task(spec.task).n_classes)
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
        row = {"loss": loss.detach()}
        if step in evaluate_at and has_val:
            row["val"] = headline(score(predict(network, dims, parts["val"], device, workers), _targets(parts["val"])))
        if step in evaluate_at and (not has_val or row["val"] >= _best_val(run.rows)):
            best.load_state_dict(network.state_dict())
        run.log(step, **row)
    tested = {}
    if "test" in parts:
        probabilities, targets = predict(best, dims, parts["test"], device, workers), _targets(parts["test"])
        if distributed.is_main():
            arrays = {"probabilities": probabilities.numpy(), "targets": targets.numpy()}
            with atomic_path(folder / "predictions.npz") as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, **arrays)
        tested = score(probabilities, targets)
    save_weights(best, folder / "network.safetensors")
    chosen = max((r for r in run.rows if "val" in r), key=lambda r: (r["val"], r["step"]), default=None)
    return {
        **tested,
        "val": chosen["val"] if chosen else None,
        "chosen_step": chosen["step"] + 1 if chosen else total,
        **run.course,
    }


def score_target(
    spec: TestSpec,
    learned: Manifest,
    weights: Path,
    source: FrameSource,
    manifest: Manifest,
    device: torch.device,
    workers: int = 0,
) -> dict[str, object]:
    """Score a trained target on the test rows of ``manifest``.

    Args:
        learned: the dataset that the target learned on.
        weights: of the target.
        source: frames of ``manifest``.

    Returns:
        ``scores``: a dict of metrics (``metrics.score``) and ``loss`` for each of ``spec.scores``.

    Raises:
        UserError: a task has other classes than those learned.
    """
    task = learned.task(spec.target.task)
    for name in (each.task for each in spec.scores):
        asked = manifest.task(name)
        if (task.kind, task.classes) != (asked.kind, asked.classes):
            raise UserError(
                f"task {asked.name!r} of {manifest.name!r} has other classes than task {task.name!r} of "
                f"{learned.name!r}; a target is tested on the classes it learned"
            )
    network, dims = build_target(spec.target.network, task.n_classes)
    load_model(network, weights)
    network.to(device)
    rows, view = rows_of(manifest, "test"), spec.target.view
    paths = manifest.rows["path"].to_numpy()
    predicted: dict[bool, tuple[Tensor, np.ndarray]] = {}

    def prediction(every_frame: bool) -> tuple[Tensor, np.ndarray]:
        """Probabilities, and the row that each belongs to; once for all scores."""
        if every_frame not in predicted and every_frame:
            predicted[True] = predict_frames(network, source, rows, view, device, task.kind == "multi")
        elif every_frame not in predicted:
            dataset = ClipDataset(source, rows, manifest.sparse_labels(spec.scores[0].task), view)
            predicted[False] = predict(network, dims, dataset, device, workers), rows
        return predicted[every_frame]

    def scored(each: ScoreSpec) -> dict[str, float]:
        probabilities, of_row = prediction(each.per != "row")
        targets = torch.from_numpy(manifest.labels(each.task)[of_row])
        if each.without:
            kept = torch.from_numpy(~manifest.rows[each.task].isin(each.without).to_numpy()[of_row])
            probabilities, targets, of_row = probabilities[kept], targets[kept], of_row[kept.numpy()]
        if each.per == "video":
            probabilities, targets = per_video(probabilities, targets, paths[of_row])
        return score(probabilities, targets) | {"loss": prediction_loss(probabilities, targets)}

    return {"scores": [scored(each) for each in spec.scores]}


@torch.no_grad()
def predict_frames(
    network: nn.Module, source: FrameSource, rows: np.ndarray, view: View, device: torch.device, multi: bool
) -> tuple[Tensor, np.ndarray]:
    """Probabilities of every frame of the rows by a network of single frames, (frames, K), and each one's row."""
    network.eval()
    scores, of_row = [], []
    for row in rows:
        n = source.n_frames(row)
        for at in range(0, n, 256):
            frames = source.read(row, np.arange(at, min(at + 256, n)))
            x = centre_crop(*frames.shape[1:3], view)(frames, view.size).to(device).float() / 255
            with autocast(device, "float32", 2):
                logits = network(x[:, None])  # (n, C, H, W) -> (n, 1, C, H, W)
            scores.append((logits.sigmoid() if multi else logits.softmax(1)).cpu())
        of_row += [row] * n
    return torch.cat(scores), np.array(of_row)


def _best_val(rows: list[dict[str, float]]) -> float:
    return max((row["val"] for row in rows if "val" in row), default=-np.inf)


def _targets(dataset: ClipDataset) -> Tensor:
    return dataset.labels_of(dataset.rows)
