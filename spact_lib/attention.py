"""Where f_B looks (the supplementary's Figs 7 and 8): its attention on frames.

The supplementary does not say how its maps were made. Here: activation-based attention (Zagoruyko and Komodakis 2017),
the sum of squared activations over the channels of the encoder's last feature map. It needs no class and no gradient,
so it is defined for a self-supervised f_B, and it is the same function of the frame before and after the game.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spact_lib.errors import UserError
from spact_lib.experiments import to_tensor
from spact_lib.networks.privacy import PrivacyNetwork


def last_feature_map(encoder: nn.Module, frames: Tensor) -> Tensor:
    """The output of the encoder's last layer that still knows places: (N, 3, H, W) -> (N, C, h, w).

    Raises:
        UserError: there is none, as in an f_B that sees clips.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-2:].numel() > 1:
            kept[:] = [output]

    handles = [module.register_forward_hook(keep) for module in encoder.modules()]
    try:
        encoder(frames)
    finally:
        for handle in handles:
            handle.remove()
    if not kept:
        raise UserError("attention is drawn for an f_B that sees single frames; this one sees clips")
    return kept[0]


@torch.no_grad()
def attention(f_B: PrivacyNetwork, frames: np.ndarray) -> np.ndarray:
    """Attention maps of f_B, a mean over its encoders, each frame's scaled to a maximum of 1.

    Args:
        f_B: in eval mode, of single frames; of MoCo its query network.
        frames: uint8 RGB (n, h, w, 3).

    Returns:
        (n, h, w) in [0, 1]: the map of the last feature map, enlarged to the frame (bilinear).
    """
    images = to_tensor(frames, next(f_B.parameters()).device)
    maps = []
    for member in f_B.members:
        energy = last_feature_map(member[0], images).float().square().sum(1, keepdim=True)  # (n, 1, h', w')
        energy = F.interpolate(energy, images.shape[-2:], mode="bilinear", align_corners=False)
        maps.append(energy / energy.amax((-2, -1), keepdim=True).clamp_min(1e-12))
    mean = torch.stack(maps).mean(0)
    return (mean / mean.amax((-2, -1), keepdim=True).clamp_min(1e-12))[:, 0].cpu().numpy()
