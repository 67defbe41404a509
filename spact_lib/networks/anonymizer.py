"""f_A, the anonymization function: a U-Net on frames (Sec. 3.2.1, [36] of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DoubleConv(nn.Sequential):
    """Two times (3x3 convolution, BatchNorm, ReLU); the biases are redundant but the official network has them."""

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int | None = None):
        mid_channels = mid_channels or out_channels
        super().__init__(
            nn.Conv2d(in_channels, mid_channels, 3, padding=1),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Anonymizer(nn.Module):
    """U-Net with bilinear up-sampling, 3 -> 3 channels, sigmoid output.

    Args:
        base_width: channels of the first level; the paper's network has 64 (17.27 M parameters).

    Shape: (N, 3, H, W) in [0, 1] -> (N, 3, H, W) in [0, 1]; any H, W of at least 16.
    """

    def __init__(self, base_width: int = 64):
        super().__init__()
        w = base_width
        self.stem = DoubleConv(3, w)
        self.down = nn.ModuleList(
            [DoubleConv(w, 2 * w), DoubleConv(2 * w, 4 * w), DoubleConv(4 * w, 8 * w), DoubleConv(8 * w, 8 * w)]
        )
        # Bilinear up-sampling halves no channels, so each block maps (skip + below) to the width of the next skip.
        self.up = nn.ModuleList(
            [
                DoubleConv(16 * w, 4 * w, 8 * w),
                DoubleConv(8 * w, 2 * w, 4 * w),
                DoubleConv(4 * w, w, 2 * w),
                DoubleConv(2 * w, w),
            ]
        )
        self.to_rgb = nn.Conv2d(w, 3, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> Tensor:
        if frames.dim() != 4 or frames.shape[1] != 3:
            raise ValueError(f"f_A takes frames of shape (N, 3, H, W), got {tuple(frames.shape)}; flatten clips first")
        skips = [self.stem(frames.contiguous(memory_format=torch.channels_last))]
        for block in self.down:
            skips.append(block(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for block in self.up:
            skip = skips.pop()
            # Resizing to the skip's own size also covers odd H and W, which a factor of 2 would miss by one.
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=True)
            x = block(torch.cat([skip, x], dim=1))
        # The sigmoid in float32: in bfloat16 values near 1 are 1/256 apart, coarser than the 8-bit release.
        return torch.sigmoid(self.to_rgb(x).float())


def anonymize_clips(f_A: nn.Module, clips: Tensor) -> Tensor:
    """Apply f_A to every frame: (B, T, C, H, W) -> (B, T, C, H, W)."""
    frames = clips.flatten(0, 1)  # (B, T, C, H, W) -> (B*T, C, H, W)
    return f_A(frames).unflatten(0, clips.shape[:2])  # (B*T, C, H, W) -> (B, T, C, H, W)
