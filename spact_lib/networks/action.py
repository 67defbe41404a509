"""f_T and f'_T: 3-D CNNs on clips (B, T, C, H, W) in [0, 1] -> action logits (B, K)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import mc3_18, r2plus1d_18, r3d_18
from torchvision.models.video.resnet import (
    BasicBlock,
    Conv2Plus1D,
    Conv3DNoTemporal,
    Conv3DSimple,
    VideoResNet,
)

from spact_lib.device import layout
from spact_lib.errors import unknown_name


class ActionNetwork(nn.Module):
    """A torchvision video network behind our clip layout.

    Shape: (B, T, 3, H, W) in [0, 1] -> (B, n_classes).
    """

    def __init__(self, body: VideoResNet):
        super().__init__()
        # Channels last: conv3d is faster so on a CPU than in the default layout (2.2 times: seen once, not recorded).
        self.body = body.to(memory_format=layout(3))

    def forward(self, clips: Tensor) -> Tensor:
        if clips.dim() != 5 or clips.shape[2] != 3:
            raise ValueError(f"f_T takes clips of shape (B, T, 3, H, W), got {tuple(clips.shape)}")
        clips = clips.transpose(1, 2)  # (B, T, C, H, W) -> (B, C, T, H, W)
        return self.body(clips.contiguous(memory_format=layout(3)))

    def features(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, n_classes), and the pooled features (B, D) that they are a linear function of."""
        seen: list[Tensor] = []
        hook = self.body.fc.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
        try:
            return self(clips), seen[0]
        finally:
            hook.remove()


def _r3d18(n_classes: int) -> VideoResNet:
    return r3d_18(weights=None, num_classes=n_classes)


def _r3d18_dilated(n_classes: int) -> VideoResNet:
    """R3D-18 whose last stage keeps the temporal length (stride 1, dilation 2), as in the official code."""
    body = _r3d18(n_classes)
    first = body.layer4[0]
    first.conv1[0], first.downsample[0] = _dilated(first.conv1[0], first.downsample[0])
    for conv in (first.conv1[0], first.downsample[0]):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return body


def _dilated(conv: nn.Conv3d, shortcut: nn.Conv3d) -> tuple[nn.Conv3d, nn.Conv3d]:
    """The first convolution of a stage and its shortcut, which then keep the temporal length."""
    sizes, stride = (conv.in_channels, conv.out_channels), (1, 2, 2)
    return (
        nn.Conv3d(*sizes, 3, stride=stride, padding=(2, 1, 1), dilation=(2, 1, 1), bias=False),
        nn.Conv3d(*sizes, 1, stride=stride, bias=False),
    )


def _r2plus1d18(n_classes: int) -> VideoResNet:
    return r2plus1d_18(weights=None, num_classes=n_classes)


def _mc3_18(n_classes: int) -> VideoResNet:
    return mc3_18(weights=None, num_classes=n_classes)


class _SlimStem(nn.Sequential):
    def __init__(self, channels: int, width: int):
        super().__init__(
            nn.Conv3d(channels, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )


class SlimR3D(nn.Module):
    """R3D for 32-pixel clips on a CPU: a stem and three residual blocks (torchvision's BasicBlock), widths 16-32-64."""

    channels = 3
    convolutions = (Conv3DSimple, Conv3DSimple, Conv3DSimple)  # of the blocks

    def __init__(self, n_classes: int, width: int = 16):
        super().__init__()
        first, second, third = self.convolutions
        self.stem = _SlimStem(self.channels, width)
        self.blocks = nn.Sequential(
            _block(width, width, 1, first),
            _block(width, 2 * width, 2, second),
            _block(2 * width, 4 * width, 2, third),
        )
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(4 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.blocks(self.stem(x))).flatten(1))


class SlimMotionR3D(SlimR3D):
    """SlimR3D that is also shown the normal flow, which plain 3-D convolutions must first discover: f_T of mini.

    A plain SlimR3D stays at chance for hundreds of steps until it has discovered motion, earlier or later by the luck
    of its seed; this one leaves chance within the first fifty, so that methods are compared and not seeds.
    """

    channels = 5

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([(x - 0.45) / 0.225, 2 * normal_flow(x)], dim=1)  # (B, 3 + 2, T, H, W)
        return super().forward(x.contiguous(memory_format=layout(3)))


class SlimMotionDilatedR3D(SlimMotionR3D):
    """The last block keeps the temporal length (stride 1, dilation 2), as R3D-18's last stage in the official code."""

    def __init__(self, n_classes: int, width: int = 16):
        super().__init__(n_classes, width)
        last = self.blocks[-1]
        last.conv1[0], last.downsample[0] = _dilated(last.conv1[0], last.downsample[0])


class SlimMotionR2Plus1D(SlimMotionR3D):
    """R(2+1)D for mini: every 3x3x3 convolution of the blocks is one in space, then one in time."""

    convolutions = (Conv2Plus1D, Conv2Plus1D, Conv2Plus1D)


class SlimMotionMC3(SlimMotionR3D):
    """MC3 for mini: the first block is 3-D, the later ones are 2-D and keep the temporal length."""

    convolutions = (Conv3DSimple, Conv3DNoTemporal, Conv3DNoTemporal)


UNSEEN = 0.002  # squared gradient of brightness below which motion counts as unseen


def normal_flow(x: Tensor) -> Tensor:
    """Motion along the brightness gradient, from one frame to the next (Horn and Schunck's constraint, no smoothing).

    Args:
        x: (B, 3, T, H, W) in [0, 1].

    Returns:
        (B, 2, T, H, W): pixels per frame to the right and down, within [-2, 2]; 0 at the first frame.
    """
    gray = F.avg_pool3d(x.mean(1, keepdim=True), (1, 3, 3), stride=1, padding=(0, 1, 1))  # (B, 1, T, H, W)
    before = torch.cat([gray[:, :, :1], gray[:, :, :-1]], dim=2)
    between, change = F.pad((gray + before) / 2, (1, 1, 1, 1, 0, 0), mode="replicate"), gray - before
    right = (between[..., 1:-1, 2:] - between[..., 1:-1, :-2]) / 2
    down = (between[..., 2:, 1:-1] - between[..., :-2, 1:-1]) / 2
    speed = -change / (right**2 + down**2 + UNSEEN)
    return torch.cat([speed * right, speed * down], dim=1).clamp(-2, 2)


def _block(in_channels: int, out_channels: int, stride: int, convolution: type[nn.Module]) -> BasicBlock:
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        strides = convolution.get_downsample_stride(stride)
        shortcut = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, 1, stride=strides, bias=False), nn.BatchNorm3d(out_channels)
        )
    return BasicBlock(in_channels, out_channels, convolution, stride, shortcut)


ACTION_NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "r3d18": _r3d18,
    "r3d18_dilated": _r3d18_dilated,
    "r2plus1d18": _r2plus1d18,
    "mc3_18": _mc3_18,
    "r3d_slim": SlimR3D,
    "r3d_slim_motion": SlimMotionR3D,
    "r2plus1d_slim_motion": SlimMotionR2Plus1D,
    "mc3_slim_motion": SlimMotionMC3,
    "r3d_slim_motion_dilated": SlimMotionDilatedR3D,
}


def build_action_network(name: str, n_classes: int) -> ActionNetwork:
    """f_T by name (``ACTION_NETWORKS``), randomly initialised with torch's global generator."""
    refuse_unknown(name)
    return ActionNetwork(ACTION_NETWORKS[name](n_classes))


def refuse_unknown(name: str) -> None:
    """UserError for a name that no action network has."""
    if name not in ACTION_NETWORKS:
        raise unknown_name("action network", name, ACTION_NETWORKS)
