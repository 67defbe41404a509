"""The minimax iteration as one first writes it: float32, default layouts, every network in the graph.

Both steps compute the gradients of all three networks and use those of one or two. What is method and not style is as
in ``spact_lib.minimax``: who is in train mode, and which frames share a BatchNorm batch (f_A's in step 1, f_B's in 2).
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from spact_lib.losses import nt_xent
from spact_lib.minimax import Game


class UNet(nn.Module):
    """f_A with the weights of ours. Shape: (N, 3, H, W) -> (N, 3, H, W)."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.ours = in_default_layout(ours)

    def forward(self, frames: Tensor) -> Tensor:
        skips = [self.ours.stem(frames)]
        for block in self.ours.down:
            skips.append(block(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for block in self.ours.up:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=True)
            x = block(torch.cat([skip, x], dim=1))
        return torch.sigmoid(self.ours.to_rgb(x))


def in_default_layout(module: nn.Module) -> nn.Module:
    """A copy without channels_last."""
    return deepcopy(module).to(memory_format=torch.contiguous_format)


class PlainGame:
    """The players of a SPAct game (NT-Xent on pairs), copied, and the two steps.

    A batch is a dict: ``clip`` (B, T, C, H, W), ``label`` (B,), ``pair`` (N, 2, C, H, W).
    """

    def __init__(self, game: Game, lr: float):
        self.f_A, self.omega = UNet(game.f_A), game.omega
        self.f_T, self.f_B = in_default_layout(game.f_T.body), in_default_layout(game.f_B.members[0])
        self.optimizer_A, self.optimizer_T, self.optimizer_B = (
            Adam(network.parameters(), lr=lr) for network in (self.f_A, self.f_T, self.f_B)
        )

    def anonymizer_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Step 1, Eq. 9."""
        self.f_A.train(), self.f_T.eval(), self.f_B.eval()
        clip, pair = batch["clip"], batch["pair"]
        out = self.f_A(torch.cat([clip.flatten(0, 1), pair.flatten(0, 1)]))
        n = clip.shape[0] * clip.shape[1]
        anonymized, frames = out[:n].unflatten(0, clip.shape[:2]), out[n:].unflatten(0, pair.shape[:2])
        loss_T = F.cross_entropy(self.f_T(anonymized.transpose(1, 2).contiguous()), batch["label"])
        loss_B = nt_xent(self.f_B(frames[:, 0]), self.f_B(frames[:, 1]))
        self.optimizer_A.zero_grad()
        (loss_T - self.omega * loss_B).backward()
        self.optimizer_A.step()
        return {"L_T_step1": loss_T.item(), "L_B_step1": loss_B.item()}

    def auxiliary_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Step 2, Eq. 7 and 8."""
        self.f_A.eval(), self.f_T.train(), self.f_B.train()
        clip, pair = batch["clip"], batch["pair"]
        anonymized = self.f_A(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
        first, second = self.f_A(pair[:, 0]), self.f_A(pair[:, 1])
        loss_T = F.cross_entropy(self.f_T(anonymized.transpose(1, 2).contiguous()), batch["label"])
        loss_B = nt_xent(*self.f_B(torch.cat([first, second])).chunk(2))
        self.optimizer_T.zero_grad()
        self.optimizer_B.zero_grad()
        (loss_T + loss_B).backward()
        self.optimizer_T.step()
        self.optimizer_B.step()
        return {"L_T": loss_T.item(), "L_B": loss_B.item()}
