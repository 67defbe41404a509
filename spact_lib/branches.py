"""The privacy branch: which frames f_B sees and what L_B is. A new SSL loss is a class and a name in ``BRANCHES``."""

import torch
from torch import Tensor, nn

from spact_lib.config import BranchSpec
from spact_lib.losses import classification_loss, nt_xent, nt_xent_uninformative
from spact_lib.networks.privacy import PrivacyNetwork


class ContrastiveBranch:
    """Self-supervised (Sec. 3.2.2): two frames of each video of the action batch, NT-Xent (Eq. 5)."""

    needs_images = False  # of the privacy dataset, with their labels

    def __init__(self, spec: BranchSpec, n_attributes: int):
        self.spec = spec

    def build(self) -> nn.Module:
        return PrivacyNetwork(self.spec.network)

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        """The frames that f_B judges: (N, 2, C, H, W)."""
        return batch["pair"]

    def loss(self, f_B: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """L_B of frames that went through f_A, shape of ``frames(batch)``; a mean over the encoders of f_B."""
        n = frames.shape[0]
        z = f_B(frames.flatten(0, 1)).unflatten(1, (n, 2))  # (M, N*2, D) -> (M, N, 2, D)
        spec = self.spec
        return torch.stack([nt_xent(m[:, 0], m[:, 1], spec.temperature, spec.both_directions) for m in z]).mean()

    def uninformative(self, batch: int) -> float | None:
        """L_B of an f_B that sees nothing; above it pairs are anti-aligned, which hides nothing by itself."""
        return nt_xent_uninformative(batch)


class SupervisedBranch:
    """Supervised [41]: attribute classification of the privacy dataset's images, BCE (or cross entropy) as L_B."""

    needs_images = True

    def __init__(self, spec: BranchSpec, n_attributes: int):
        self.spec, self.n_attributes = spec, n_attributes

    def build(self) -> nn.Module:
        return PrivacyNetwork(self.spec.network, self.n_attributes)

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        """The frames that f_B judges: (N, 1, C, H, W)."""
        return batch["image"]

    def loss(self, f_B: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """L_B; a mean over the encoders of f_B."""
        logits = f_B(frames.flatten(0, 1))  # (N, 1, C, H, W) -> (N, C, H, W) -> (M, N, K)
        return torch.stack([classification_loss(m, batch["image_label"]) for m in logits]).mean()

    def uninformative(self, batch: int) -> float | None:
        """None: it depends on how frequent the attributes are."""
        return None


BRANCHES = {"nt_xent": ContrastiveBranch, "supervised": SupervisedBranch}


def build_branch(spec: BranchSpec, n_attributes: int) -> ContrastiveBranch | SupervisedBranch:
    """The branch named by ``spec.loss``."""
    return BRANCHES[spec.loss](spec, n_attributes)
