"""L_T of the game: what f_T is asked, and of which clips. A new one is a class and a name in ``ACTION_LOSSES``."""

from typing import Protocol

import torch
from torch import Tensor, nn

from spact_lib.config import ActionLossSpec
from spact_lib.errors import unknown_name
from spact_lib.losses import classification_loss, triplet_margin


class ActionLoss(Protocol):
    """What the game asks of L_T."""

    further: tuple[str, ...]  # moments of further clips of each video (``data.ClipDataset``), in ``batch["further"]``

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        """The frames of each video that f_T judges: (B, V, C, H, W)."""

    def loss(self, f_T: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """L_T of frames that went through f_A, shape of ``frames(batch)``."""


class Classification:
    """SPAct's L_T: cross entropy of the clip's action; binary cross entropy where a clip has several."""

    further: tuple[str, ...] = ()

    def __init__(self, spec: ActionLossSpec):
        self.spec = spec

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["clip"]  # (B, T, C, H, W)

    def loss(self, f_T: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return classification_loss(f_T(frames).float(), batch["label"])


class TemporallyDistinct(Classification):
    """TeD-SPAD (Fioresi, Dave, Shah, ICCV 2023): a weighted triplet loss is added, so that f_T tells moments apart.

    Anchor: the clip; positive: the same frames augmented otherwise; negative: another moment of the video, here one
    that does not overlap the clip. Everything else stays SPAct's (f_A, its start, rates, omega's rule, budget), so that
    the row differs in this term alone; the published method also has another f_A, rates and schedule.
    """

    further = ("same", "other")

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        return torch.cat([batch["clip"], batch["further"]], dim=1)  # (B, 3 * T, C, H, W)

    def loss(self, f_T: nn.Module, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        # Three passes, as published: each kind of clip is a BatchNorm batch of f_T of its own.
        clip, *further = frames.chunk(3, dim=1)
        logits, anchor = f_T.features(clip)
        positive, negative = (f_T.features(other)[1] for other in further)
        distinct = triplet_margin(anchor, positive, negative, self.spec.margin)
        return classification_loss(logits.float(), batch["label"]) + self.spec.weight * distinct


ACTION_LOSSES: dict[str, type] = {"classification": Classification, "temporally_distinct": TemporallyDistinct}


def build_action_loss(spec: ActionLossSpec) -> ActionLoss:
    """L_T named by ``spec.loss``."""
    if spec.loss not in ACTION_LOSSES:
        raise unknown_name("L_T", spec.loss, ACTION_LOSSES)
    return ACTION_LOSSES[spec.loss](spec)
