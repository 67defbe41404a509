"""Noise-Features, ours after the description of [46] and not claimed to be it: no adversary, but noise inside f_A.

f_A, the U-Net with Gaussian noise on all features that its encoder hands to its decoder (the skips and the bottleneck),
and f_T learn together to minimise L_T + L1. The noise has sigma times the standard deviation of a frame's features, so
that larger features do not drown it. It stays at release, and is a function of seed, row and frame.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spact_lib import distributed
from spact_lib.config import NoiseFeaturesSpec
from spact_lib.data import FrameSource, to_float, training_batches
from spact_lib.device import autocast
from spact_lib.initialize import part
from spact_lib.losses import classification_loss, l1_reconstruction
from spact_lib.manifest import Manifest
from spact_lib.minimax import collapsed
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.training import Run, adam, running_mean, set_learning_rate

TRAINING, RELEASE = 0, 1  # so that a release repeats no noise of training


def with_noise(f_A: Anonymizer, frames: Tensor, sigma: float, generators: Sequence[torch.Generator]) -> Tensor:
    """f_A with noise on its features. Shape: (N, 3, H, W) in [0, 1] -> same.

    Args:
        sigma: standard deviation of the noise, of that of all features of one level and frame.
        generators: of the frames' device; each draws for an equal share of consecutive frames.
    """

    def noise(shape: torch.Size) -> Tensor:
        share = [shape[0] // len(generators), *shape[1:]]
        return torch.cat([torch.randn(share, generator=g, device=frames.device) for g in generators])

    return f_A.decode([x + sigma * x.float().std((1, 2, 3), keepdim=True) * noise(x.shape) for x in f_A.encode(frames)])


def generator(device: torch.device, *seed: int) -> torch.Generator:
    """A generator that is a function of several integers."""
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def train_noise_features(
    spec: NoiseFeaturesSpec,
    f_A: Anonymizer,
    f_T: nn.Module,
    action: tuple[FrameSource, Manifest],
    folder: Path,
    device: torch.device,
    workers: int = 0,
) -> dict[str, float | bool]:
    """f_A and f_T, from their initialisation on, minimise L_T + L1 (Eq. 4) together, with noise.

    Returns:
        ``L_T``, ``L1`` and ``spread`` (of pixels over a batch, as ``minimax.anonymizer_step``), means of the last
        steps; ``collapsed``; ``seconds``.
    """
    networks = {"f_A": f_A, "f_T": f_T}
    optimizers = {name: adam(network, spec.schedule) for name, network in networks.items()}
    run = Run(folder, networks, optimizers, f"noise features, sigma {spec.sigma:g}")
    dataset = part(*action, "train", spec.f_T.task, spec.f_A.view, seed=spec.seed)
    total, precision = spec.schedule.steps, spec.f_A.precision
    batches = iter(training_batches(dataset, spec.schedule.batch, run.step, total, workers))
    rank, _ = distributed.which()  # a last 0 changes no seed: numpy's SeedSequence fills up with zeros
    for step in run.steps(total):
        batch = to_float(next(batches), device)
        frames = batch["clip"].flatten(0, 1)  # (B, T, C, H, W) -> (B*T, C, H, W)
        f_A.train(), f_T.train()
        with autocast(device, precision, dims=2):
            out = with_noise(f_A, frames, spec.sigma, [generator(device, spec.seed, TRAINING, step, rank)])
        with autocast(device, precision, dims=3):
            logits = f_T(out.unflatten(0, batch["clip"].shape[:2]))
        loss_T, loss_1 = classification_loss(logits.float(), batch["label"]), l1_reconstruction(frames, out)
        for optimizer in optimizers.values():
            set_learning_rate(optimizer, spec.schedule, step)
            optimizer.zero_grad(set_to_none=True)
        (loss_T + loss_1).backward()
        for optimizer in optimizers.values():
            optimizer.step()
        run.log(step, L_T=loss_T.detach(), L1=loss_1.detach(), spread=out.detach().std(0).mean())
    means = {name: running_mean(run.rows, name) for name in ("L_T", "L1", "spread")}
    return means | {"collapsed": collapsed(means["spread"], run.label)} | run.course
