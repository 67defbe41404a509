"""Initialisation (Sec. 3.3): f_A to the identity (Eq. 4, 6), then f_T and f_B on its output (Eq. 7, 8)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spact_lib import distributed
from spact_lib.branches import Branch
from spact_lib.config import InitActionSpec, InitAnonymizerSpec, InitPrivacySpec, View
from spact_lib.data import ClipDataset, FrameSource, halved, rows_of, test_batches, to_float, training_batches
from spact_lib.device import autocast
from spact_lib.losses import classification_loss, l1_reconstruction
from spact_lib.manifest import Manifest
from spact_lib.networks.action import build_action_network
from spact_lib.networks.anonymizer import Anonymizer, anonymize_clips
from spact_lib.training import (
    Run,
    adam,
    frozen,
    running_mean,
    seed_weights,
    set_learning_rate,
    settled_mean,
    without_graph,
)


def part(
    source: FrameSource, manifest: Manifest, split: str, task: str | None, view: View, *, seed: int,
    sampler: str | None = None, pair_frames: int = 1, further: Sequence[str] = (), clips: bool = True,
) -> ClipDataset:  # fmt: skip
    """The rows of one split as a dataset; without validation rows, "val" is the training rows."""
    rows = rows_of(manifest, split)
    if len(rows) == 0:
        rows = rows_of(manifest, "train")
    labels = None if task is None else manifest.sparse_labels(task)
    return ClipDataset(
        source, rows, labels, view, seed=seed, sampler=sampler, pair_frames=pair_frames, further=further, clips=clips
    )  # fmt: skip


def initialize_anonymizer(
    spec: InitAnonymizerSpec,
    action: tuple[FrameSource, Manifest],
    privacy: tuple[FrameSource, Manifest],
    folder: Path,
    device: torch.device,
    workers: int = 0,
) -> tuple[Anonymizer, dict[str, float]]:
    """Eq. 6: f_A learns to reconstruct single frames, half of each batch from either dataset.

    Returns:
        f_A and ``val_l1``: mean absolute error on validation frames of both datasets, to be compared with th_A0.
    """
    seed_weights(spec.seed, 0)
    f_A = Anonymizer(spec.width).to(device)
    optimizer = adam(f_A, spec.schedule)
    run = Run(folder, {"f_A": f_A}, {"f_A": optimizer}, "initialise f_A")
    view, half = spec.view.frames(), max(1, spec.schedule.batch // 2)
    parts = [part(*data, "train", None, view, seed=spec.seed + k) for k, data in enumerate((action, privacy))]
    total = spec.schedule.steps
    streams = [iter(training_batches(p, half, run.step, total, halved(workers))) for p in parts]
    for step in run.steps(total):
        frames = torch.cat([to_float(next(stream), device)["clip"].flatten(0, 1) for stream in streams])
        set_learning_rate(optimizer, spec.schedule, step)
        run.log(step, L1=reconstruction_step(f_A, optimizer, frames, frames, spec.precision))
    single = view.model_copy(update={"test_clips": 1})
    held_out = [part(*data, "val", None, single, seed=0) for data in (action, privacy)]
    errors = [reconstruction_error(f_A, dataset, device, spec.precision, workers) for dataset in held_out]
    return f_A, {"val_l1": sum(errors) / 2, **run.course}


def reconstruction_step(
    network: nn.Module, optimizer: Optimizer, given: Tensor, wanted: Tensor, precision: str
) -> Tensor:
    """One step towards ``wanted`` from ``given``, frames (N, 3, H, W) each; the loss of Eq. 4, without a graph."""
    network.train()
    with autocast(given.device, precision, dims=2):
        out = network(given)
    loss = l1_reconstruction(wanted, out)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def reconstruction_error(
    f_A: nn.Module, dataset: ClipDataset, device: torch.device, precision: str, workers: int = 0
) -> float:
    """Mean L1 (Eq. 4) between frames and f_A's output, over the test views of a dataset."""
    f_A.eval()
    total, count = 0.0, 0
    for batch in test_batches(dataset, 64, workers):
        frames = to_float(batch, device)["clip"].flatten(0, 1)
        with autocast(device, precision, dims=2):
            total += l1_reconstruction(frames, f_A(frames)).item() * len(frames)
        count += len(frames)
    total, count = (sum(distributed.gathered([own])) for own in (total, count))
    return total / count


def through_f_A(f_A: nn.Module, clips: Tensor, precision: str) -> Tensor:
    """Clips (B, T, C, H, W) through a frozen f_A, without a graph."""
    with frozen(f_A), without_graph(), autocast(clips.device, precision, dims=2):
        return anonymize_clips(f_A, clips)


def initialize_action(
    spec: InitActionSpec,
    f_A: nn.Module,
    action: tuple[FrameSource, Manifest],
    folder: Path,
    device: torch.device,
    workers: int = 0,
) -> tuple[nn.Module, dict[str, float]]:
    """Eq. 7: f_T minimises L_T on f_A's output, until L_T (mean of 50 steps) is below th_T0 or the budget ends."""
    seed_weights(spec.seed, 1)
    f_T = build_action_network(spec.network, action[1].tasks[spec.task].n_classes).to(device)
    optimizer = adam(f_T, spec.schedule)
    run = Run(folder, {"f_T": f_T}, {"f_T": optimizer}, "initialise f_T")
    dataset = part(*action, "train", spec.task, spec.f_A.view, seed=spec.seed)
    total = spec.schedule.steps
    batches = iter(training_batches(dataset, spec.schedule.batch, run.step, total, workers))
    for step in run.steps(total):
        batch = to_float(next(batches), device)
        set_learning_rate(optimizer, spec.schedule, step)
        clips = batch["clip"] if spec.on_raw else through_f_A(f_A, batch["clip"], spec.f_A.precision)
        f_T.train()
        with autocast(device, spec.f_A.precision, dims=3):
            loss = classification_loss(f_T(clips).float(), batch["label"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.log(step, L_T=loss.detach())
        if spec.threshold > 0 and settled_mean(run.rows, "L_T") < spec.threshold:  # a loss never falls below 0
            run.stop()
    return f_T, {"L_T": running_mean(run.rows, "L_T"), **run.course}


def update_privacy(
    f_B: nn.Module, branch: Branch, optimizer: Optimizer, batch: dict[str, Tensor], *, f_A: nn.Module | None,
    precision: str,
) -> Tensor:  # fmt: skip
    """One step of f_B down the gradient of L_B (Eq. 8), on frames that a frozen f_A has made (None: on raw ones).

    Returns:
        L_B before the step, a scalar, detached; nobody has waited for the GPU.
    """
    frames = branch.frames(batch)
    frames = frames if f_A is None else through_f_A(f_A, frames, precision)
    f_B.train()
    with autocast(frames.device, precision, dims=branch.dims):
        loss = branch.loss(f_B, frames, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def initialize_privacy(
    spec: InitPrivacySpec,
    f_A: nn.Module,
    branch: Branch,
    batches,
    folder: Path,
    device: torch.device,
) -> tuple[nn.Module, dict[str, float]]:
    """Eq. 8: f_B minimises L_B on f_A's output, until L_B (mean of 50 steps) is below th_B0 or the budget ends.

    Args:
        batches: (first, last) -> iterator of batches as ``minimax.Game`` takes them.
    """
    seed_weights(spec.seed, 2)
    f_B = branch.build().to(device)
    optimizer = adam(f_B, spec.schedule)
    run = Run(folder, {"f_B": f_B}, {"f_B": optimizer}, "initialise f_B")
    stream = batches(run.step, spec.schedule.steps)
    for step in run.steps(spec.schedule.steps):
        batch = next(stream)
        set_learning_rate(optimizer, spec.schedule, step)
        through = None if spec.on_raw else f_A
        run.log(step, L_B=update_privacy(f_B, branch, optimizer, batch, f_A=through, precision=spec.f_A.precision))
        if spec.threshold > 0 and settled_mean(run.rows, "L_B") < spec.threshold:
            run.stop()
    return f_B, {"L_B": running_mean(run.rows, "L_B"), **run.course}
