"""The privacy branch: which frames f_B sees and what L_B is. A new SSL loss is a class and a name in ``BRANCHES``."""

import math
from copy import deepcopy
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spact_lib import distributed
from spact_lib.config import BranchSpec
from spact_lib.errors import unknown_name
from spact_lib.losses import classification_loss, info_nce, nt_xent, nt_xent_uninformative
from spact_lib.networks.privacy import PrivacyNetwork, encoder_dims


class Branch(Protocol):
    """What the game asks of a privacy branch; a base class, with what most have."""

    needs_images: bool = False  # of the privacy dataset; else pairs of frames of the action videos
    needs_labels: bool = False  # of the privacy task
    further: tuple[str, ...] = ()  # further views of each image (``data.ClipDataset``), in ``batch["image_further"]``
    f_B_dims: tuple[int, ...] = (2, 3)  # of the f_B that it can ask: 2 of frames, 3 of clips
    dims: int  # of its own f_B's convolutions

    def build(self) -> nn.Module:
        """f_B with its head, randomly initialised with torch's global generator."""

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        """The frames that f_B judges: (N, V, C, H, W)."""

    def loss(self, f_B: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """L_B of frames that went through f_A, shape of ``frames(batch)``; a mean over the encoders of f_B."""

    def uninformative(self, batch: int) -> float | None:
        """L_B of an f_B that sees nothing, with so many videos or images; above it L_B says no more about privacy."""

    @classmethod
    def passes(cls) -> tuple[int, int, int]:
        """For each video or image (``flop``): frames, or clips, that f_A makes for f_B; passes of f_B with a gradient,
        and without one."""
        views = 1 + len(cls.further) if cls.needs_images else 2
        return views, views, 0


class ContrastiveBranch(Branch):
    """Self-supervised (Sec. 3.2.2): two frames of each video of the action batch, NT-Xent (Eq. 5).

    With a 3-D f_B (Table 3, spatio-temporal) two clips of each video take the place of the two frames.
    """

    def __init__(self, spec: BranchSpec, n_attributes: int):
        self.spec, self.dims = spec, encoder_dims(spec.network)

    def build(self) -> nn.Module:
        return PrivacyNetwork(self.spec.network)

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["pair"]  # (N, 2 * n_frames, C, H, W): the first frame or clip, then the second

    def views(self, frames: Tensor) -> Tensor:
        """(N, 2 * n_frames, C, H, W) -> (N, 2, C, H, W), or (N, 2, n_frames, C, H, W) for a 3-D f_B."""
        views = frames.unflatten(1, (2, self.spec.n_frames))
        return views if self.dims == 3 else views[:, :, 0]

    def loss(self, f_B: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        z = f_B(self.views(frames).flatten(0, 1))  # (M, n * 2, D), n of the N videos where many processes share them
        z = distributed.gather(z, dim=1).unflatten(1, (-1, 2))  # -> (M, N, 2, D): all others are negatives
        spec = self.spec
        return torch.stack([nt_xent(m[:, 0], m[:, 1], spec.temperature, spec.both_directions) for m in z]).mean()

    def uninformative(self, batch: int) -> float | None:
        """Above it pairs are anti-aligned, which hides nothing by itself."""
        return nt_xent_uninformative(batch)


class StillsBranch(ContrastiveBranch):
    """The official code's pairs: two views of one image of the privacy dataset, each cropped and coloured by itself.

    No label is looked at. N is the number of images, 64, whatever the batch of videos.
    """

    needs_images = True
    further = ("same",)
    f_B_dims = (2,)

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        return torch.cat([batch["image"], batch["image_further"]], dim=1)  # (N, 2, C, H, W)


class MomentumContrast(nn.Module):
    """MoCo's encoder (He et al. 2020): f_B as the query network, its moving average as the key network, and a queue.

    One encoder; the key network gets no gradient, so the optimizer leaves it alone; in step 1 the gradient
    reaches f_A through the queries only.
    """

    def __init__(self, network: str, queue: int, momentum: float):
        super().__init__()
        self.query, self.momentum = PrivacyNetwork(network), momentum
        self.key = deepcopy(self.query)
        dimension = self.query.n_outputs
        self.register_buffer("queue", F.normalize(torch.randn(queue, dimension), dim=1))
        self.register_buffer("at", torch.zeros((), dtype=torch.long))

    def forward(self, frames: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (N, D) of ``frames`` and keys (N, D) of ``others``; in train mode the key network moves first."""
        with torch.no_grad():
            if self.training:
                for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
                    key.lerp_(query, 1 - self.momentum)
            keys = self.key(others)[0]
        return self.query(frames)[0], keys

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys of the queue, by those of all processes, so that they keep one queue."""
        size = self.queue.shape[0]
        keys = distributed.gather(keys, dim=0)[-size:]  # of more than it holds, the newest
        self.queue[(self.at + torch.arange(len(keys), device=keys.device)) % size] = F.normalize(keys, dim=1)
        self.at.add_(len(keys)).remainder_(size)


class MomentumBranch(ContrastiveBranch):
    """MoCo (Table 5): the second frame's key against a queue of keys of earlier batches."""

    def build(self) -> nn.Module:
        return MomentumContrast(self.spec.network, self.spec.queue, self.spec.momentum)

    def loss(self, f_B: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        first, second = self.views(frames).unbind(1)
        queries, keys = f_B(first, second)
        loss = info_nce(queries, keys, f_B.queue.clone(), self.spec.temperature)
        if f_B.training:  # step 2; in step 1 f_B only judges
            f_B.enqueue(keys)
        return loss

    def uninformative(self, batch: int) -> float | None:
        return math.log(1 + self.spec.queue)

    @classmethod
    def passes(cls) -> tuple[int, int, int]:
        return 2, 1, 1  # the key network has no gradient


class RotationBranch(ContrastiveBranch):
    """RotNet (Table 5; Gidaris et al. 2018): by which of four quarter turns was the anonymized frame rotated?"""

    f_B_dims = (2,)

    def build(self) -> nn.Module:
        return PrivacyNetwork(self.spec.network, 4)

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["pair"][:, :1]

    def loss(self, f_B: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        turned = torch.cat([torch.rot90(frames[:, 0], turns, (-2, -1)) for turns in range(4)])  # (4 * N, C, H, W)
        turns = torch.arange(4, device=frames.device).repeat_interleave(len(frames))
        return torch.stack([classification_loss(m, turns) for m in f_B(turned)]).mean()

    def uninformative(self, batch: int) -> float | None:
        return math.log(4)

    @classmethod
    def passes(cls) -> tuple[int, int, int]:
        return 1, 4, 0


class SupervisedBranch(Branch):
    """Supervised [41]: attribute classification of the privacy dataset's images, BCE (or cross entropy) as L_B."""

    needs_images = needs_labels = True
    f_B_dims, dims = (2,), 2

    def __init__(self, spec: BranchSpec, n_attributes: int):
        self.spec, self.n_attributes = spec, n_attributes

    def build(self) -> nn.Module:
        return PrivacyNetwork(self.spec.network, self.n_attributes)

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["image"]  # (N, 1, C, H, W)

    def loss(self, f_B: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        logits = f_B(frames.flatten(0, 1))  # (N, 1, C, H, W) -> (N, C, H, W) -> (M, N, K)
        return torch.stack([classification_loss(m, batch["image_label"]) for m in logits]).mean()

    def uninformative(self, batch: int) -> float | None:
        """None: it depends on how frequent the attributes are."""
        return None


BRANCHES: dict[str, type[Branch]] = {
    "nt_xent": ContrastiveBranch,
    "nt_xent_stills": StillsBranch,
    "moco": MomentumBranch,
    "rotnet": RotationBranch,
    "supervised": SupervisedBranch,
}


def build_branch(spec: BranchSpec, n_attributes: int) -> Branch:
    """The branch named by ``spec.loss``."""
    if spec.loss not in BRANCHES:
        raise unknown_name("L_B", spec.loss, BRANCHES)
    return BRANCHES[spec.loss](spec, n_attributes)
