"""f_B and f'_B: encoders of frames (N, 3, H, W), or clips, in [0, 1], with a projection head (SSL) or a linear one."""

from collections.abc import Callable
from functools import partial

import timm
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.resnet import BasicBlock

from spact_lib.device import layout
from spact_lib.errors import UserError, unknown_name
from spact_lib.networks.action import ACTION_NETWORKS, build_action_network

PROJECTION_SIZE = 128


class SlimResNet(nn.Sequential):
    """ResNet for 32-pixel frames on a CPU: a 3x3 stem and four BasicBlocks, widths w-2w-4w-8w.

    Shape: (N, 3, H, W) -> (N, 8 * width).
    """

    def __init__(self, width: int):
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            BasicBlock(width, width),
            _down(width, 2 * width),
            _down(2 * width, 4 * width),
            _down(4 * width, 8 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
        )


def _down(in_channels: int, out_channels: int) -> BasicBlock:
    # Pooled first: oneDNN of torch 2.15 writes behind its memory in the backward pass of a strided 1x1 convolution with
    # fewer than 16 input channels (channels last, AVX-512, two threads, a batch of 3 or 5).
    shortcut = nn.Sequential(
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )
    return BasicBlock(in_channels, out_channels, stride=2, downsample=shortcut)


def _resnet50() -> tuple[nn.Module, int]:
    body = resnet50(weights=None)
    body.fc = nn.Identity()
    return body, 2048


def _mobilenet_v1() -> tuple[nn.Module, int]:
    body = timm.create_model("mobilenetv1_100", pretrained=False, num_classes=0)
    return body, body.num_features


def _slim(width: int) -> Callable[[], tuple[nn.Module, int]]:
    return lambda: (SlimResNet(width), 8 * width)


# name -> () -> (encoder, feature size). On mini the ladder of Table 6 is the three slim networks, by their size.
ENCODERS: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "resnet50": _resnet50,
    "mobilenet_v1": _mobilenet_v1,
    "slim4": _slim(4),
    "slim8": _slim(8),
    "slim16": _slim(16),
    "slim32": _slim(32),
}


def _video(name: str) -> tuple[nn.Module, int]:
    network = build_action_network(name, 1)
    size = network.body.fc.in_features
    network.body.fc = nn.Identity()
    return network, size


# The spatio-temporal f_B of Table 3 sees clips: an action network without its last layer.
VIDEO_ENCODERS = tuple(ACTION_NETWORKS)
ENCODERS |= {name: partial(_video, name) for name in VIDEO_ENCODERS}


def encoder_names(name: str) -> list[str]:
    """The encoders of a privacy network, joined by "+" in its name; UserError where one is none."""
    parts = name.split("+")
    for part in parts:
        if part not in ENCODERS:
            raise unknown_name("privacy network", part, ENCODERS)
    return parts


def encoder_dims(name: str) -> int:
    """Of the convolutions of a privacy network: 2 if it sees frames, 3 if clips; UserError where it joins both."""
    dims = {3 if part in VIDEO_ENCODERS else 2 for part in encoder_names(name)}
    if len(dims) > 1:
        raise UserError(f"privacy network {name!r} joins encoders of frames and of clips; join those of one kind")
    return dims.pop()


class PrivacyNetwork(nn.Module):
    """One or several encoders, a head each ("R50 + MV1" of Table 6 has two).

    Args:
        name: an encoder's name, or several joined by "+".
        n_outputs: None gives the SSL projection head g (two layers, to 128); K a linear classifier of K attributes.

    Shape: (N, 3, H, W), or clips (N, T, 3, H, W) for ``VIDEO_ENCODERS`` -> (M, N, D), M encoders, D = 128 or K.
    """

    def __init__(self, name: str, n_outputs: int | None = None):
        super().__init__()
        self.n_outputs = PROJECTION_SIZE if n_outputs is None else n_outputs
        self.members = nn.ModuleList()
        for part in encoder_names(name):
            encoder, size = ENCODERS[part]()
            head = projection_head(size) if n_outputs is None else nn.Linear(size, n_outputs)
            self.members.append(nn.Sequential(encoder, head))
            if part not in VIDEO_ENCODERS:
                encoder.to(memory_format=layout(2))

    def forward(self, frames: Tensor) -> Tensor:
        if frames.dim() == 4:
            frames = frames.contiguous(memory_format=layout(2))
        return torch.stack([member(frames).float() for member in self.members])


def projection_head(size: int) -> nn.Sequential:
    """g of Sec. 3.2.2: size-size-128 (2048-2048-128 for ResNet-50)."""
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(inplace=True), nn.Linear(size, PROJECTION_SIZE))
