"""An attacker who inverts a method: g, a network like f_A, learns raw frames from released ones (not in the paper)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchvision.transforms.v2 import functional as TF

from spact_lib import distributed
from spact_lib.config import ReconstructionSpec
from spact_lib.data import ClipDataset, FrameSource, rows_of, test_batches, training_batches
from spact_lib.device import autocast
from spact_lib.initialize import reconstruction_step
from spact_lib.manifest import Manifest
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.training import Run, adam, seed_weights, set_learning_rate

OWN_PAIRS = 2_000_000  # added to the seed of the batches: neither those of f_A nor those of a target
QUALITIES = [f"{metric}{of}" for metric in ("psnr", "ssim") for of in ("", "_released", "_blind")]  # of ``quality``
BEST_PSNR = 60.0  # dB; two equal frames would have an infinite one


def enlarged(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (n, h, w, 3) -> uint8 (n, height, width, 3), bilinear: what a method made smaller, at its size before."""
    if frames.shape[1:3] == (height, width):
        return frames
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return TF.resize(x, [height, width], antialias=True).permute(0, 2, 3, 1).numpy()


class Pairs:
    """Raw and released frames of the same rows as one ``FrameSource``: uint8 (n, h, w, 6), raw first, so that both
    are cropped alike."""

    def __init__(self, raw: FrameSource, released: FrameSource):
        self.raw, self.released = raw, released

    def __len__(self) -> int:
        return len(self.raw)

    def n_frames(self, row: int) -> int:
        return self.released.n_frames(row)  # known without opening a file

    def read(self, row: int, indices: np.ndarray) -> np.ndarray:
        raw = self.raw.read(row, indices)
        return np.concatenate([raw, enlarged(self.released.read(row, indices), *raw.shape[1:3])], axis=-1)


def train_inverse(
    spec: ReconstructionSpec, pairs: Pairs, manifest: Manifest, folder: Path, device: torch.device, workers: int = 0
) -> tuple[Anonymizer, dict[str, float]]:
    """Learn g on pairs of the train rows (mean L1, as Eq. 4), without choosing anything, and measure it on test rows.

    Returns:
        g and, as means over the test frames: ``psnr`` (dB, of each frame at most ``BEST_PSNR``) and ``ssim`` of its
        reconstructions beside the raw frames; the same with suffix ``_released`` (of the release itself, enlarged),
        and ``_blind`` (of the mean training frame, the guess of who sees nothing: their chance lines); ``n_test``
        rows, ``seconds``.
    """
    seed_weights(spec.seed, 4)
    g = Anonymizer(spec.width).to(device)
    optimizer = adam(g, spec.schedule)
    run = Run(folder, {"g": g}, {"g": optimizer}, "reconstruction")
    part = {
        split: ClipDataset(pairs, rows_of(manifest, split), None, spec.view, seed=spec.seed + OWN_PAIRS)
        for split in ("train", "test")
    }
    batches = iter(training_batches(part["train"], spec.schedule.batch, run.step, spec.schedule.steps, workers))
    for step in run.steps(spec.schedule.steps):
        raw, seen = _split(next(batches), device)
        set_learning_rate(optimizer, spec.schedule, step)
        run.log(step, L1=reconstruction_step(g, optimizer, seen, raw, spec.precision))
    return g, quality(g, part["train"], part["test"], spec.precision, device, workers) | run.course


def _split(batch: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Raw and released frames, (B, 3, H, W) in [0, 1] each; the batch's colours are left out."""
    frames = batch["clip"].to(device).flatten(0, 1).float() / 255  # (B, 1, 6, H, W) -> (B, 6, H, W)
    return tuple(frames.split(3, dim=1))


@torch.no_grad()
def quality(
    g: nn.Module, train: ClipDataset, test: ClipDataset, precision: str, device: torch.device, workers: int = 0
) -> dict[str, float]:
    """PSNR and SSIM as ``train_inverse`` returns them; of a row the test views, centre crops at ``view.size``."""
    g.eval()
    total, count = torch.zeros(3, train.view.size, train.view.size, device=device), 0
    for batch in test_batches(train, 128, workers):
        raw, _ = _split(batch, device)
        total, count = total + raw.sum(0), count + len(raw)
    totals, counts = zip(*distributed.gathered([(total.cpu(), count)]), strict=True)  # each process saw its own part
    blind = sum(totals).to(device) / sum(counts)
    sums = dict.fromkeys(QUALITIES, 0.0)
    for batch in test_batches(test, 128, workers):
        raw, seen = _split(batch, device)
        with autocast(device, precision, dims=2):
            out = g(seen).float()
        for name, guess in {"": out, "_released": seen, "_blind": blind.expand_as(raw)}.items():
            psnr = peak_signal_noise_ratio(guess, raw, data_range=1.0, reduction="none", dim=(1, 2, 3))
            ssim = structural_similarity_index_measure(guess, raw, data_range=1.0, reduction="none")
            sums[f"psnr{name}"] += psnr.clamp(max=BEST_PSNR).sum().item()
            sums[f"ssim{name}"] += ssim.sum().item()
    parts, n = distributed.gathered([sums]), len(test) * test.test_clips
    return {name: sum(part[name] for part in parts) / n for name in sums} | {"n_test": len(test)}
