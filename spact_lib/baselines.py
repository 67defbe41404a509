"""Methods that learn nothing: frames in, frames out. A new one is a function here and a name in ``BASELINES``."""

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from spact_lib.errors import UserError, unknown_name


def raw(frames: Tensor) -> Tensor:
    """The frames as they are."""
    return frames


def downsample(frames: Tensor, factor: int) -> Tensor:
    """Antialiased bilinear down-sampling, fed to the targets at the low resolution.

    Shape: (N, 3, H, W) -> (N, 3, H / factor, W / factor), rounded, at least 1 pixel.
    """
    size = [max(1, round(side / factor)) for side in frames.shape[-2:]]
    return TF.resize(frames, size, antialias=True)


def downsample_and_up(frames: Tensor, factor: int) -> Tensor:
    """``downsample``, and bilinear up-sampling back to the frames' size: what is lost is detail alone, not pixels.

    Shape: (N, 3, H, W) -> same.
    """
    return TF.resize(downsample(frames, factor), list(frames.shape[-2:]))


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "raw": raw,
    "downsample_2x": lambda frames: downsample(frames, 2),
    "downsample_4x": lambda frames: downsample(frames, 4),
    "downsample_2x_up": lambda frames: downsample_and_up(frames, 2),
    "downsample_4x_up": lambda frames: downsample_and_up(frames, 4),
}

RANGE = 1e-3  # that rounding may leave [0, 1] by
# How much smaller than the stored frames a baseline's output is: its targets see proportionally smaller inputs.
SHRINKS = {"downsample_2x": 2, "downsample_4x": 4}


def baseline(name: str) -> Callable[[Tensor], Tensor]:
    """A baseline by name: (N, 3, H, W) in [0, 1] -> (N, 3, h, w) in [0, 1].

    Raises:
        UserError: an unknown name; by what is returned: frames of another number, channels or range.
    """
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)

    def checked(frames: Tensor) -> Tensor:
        out = BASELINES[name](frames)
        if out.ndim != 4 or out.shape[:2] != frames.shape[:2]:
            made = f"{tuple(out.shape)} of frames {tuple(frames.shape)}"
            raise UserError(f"baseline {name!r} made {made}; it must keep their number and three channels")
        low, high = map(float, out.aminmax())
        if not (low > -RANGE and high < 1 + RANGE):
            raise UserError(f"baseline {name!r} gave values from {low:g} to {high:g}; frames are in [0, 1]")
        return out

    return checked
