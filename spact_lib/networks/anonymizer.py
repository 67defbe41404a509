"""f_A, the anonymization function: a U-Net on frames (Sec. 3.2.1, [36] of the paper)."""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model
from torch import Tensor, nn

from spact_lib.device import layout
from spact_lib.errors import UserError
from spact_lib.files import load_json

# The files of an exported anonymizer (``apps.pretrained``), and the newest format that this version reads.
WEIGHTS, CONFIG, FORMAT = "f_A.safetensors", "config.json", 2

SMALLEST = 16  # pixels that f_A needs: it halves four times


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

    Shape: (N, 3, H, W) in [0, 1] -> (N, 3, H, W) in [0, 1]; any H, W of at least ``SMALLEST``.
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
        self.to(memory_format=layout(2))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Anonymizer":
        """f_A of a folder that ``spact export`` made, on the CPU, in eval mode; nothing is ever unpickled.

        Raises:
            UserError: as ``read_config``; no weights, or others than those that the config was written for.
        """
        config, weights = read_config(folder), Path(folder) / WEIGHTS
        width = config["width"]
        if not weights.is_file():
            raise UserError(f"{folder} holds no {WEIGHTS}; copy the whole folder that `spact export` made")
        try:
            with safe_open(weights, "pt") as file:
                stored = {name: file.get_slice(name).get_shape() for name in file.offset_keys()}
            with torch.device("meta"):
                named = cls(width).state_dict()
            # Only now is memory taken: a config may name any width, a file is as large as its shapes say.
            if stored != {name: list(tensor.shape) for name, tensor in named.items()}:
                raise ValueError("other names or shapes")
            if config["sha256"] != digest(weights):  # of another folder: shapes do not tell
                raise ValueError("other weights")
            f_A = cls(width)
            load_model(f_A, weights)
        except (RuntimeError, ValueError, SafetensorError) as error:  # other weights; no safetensors file
            raise UserError(f"{weights} does not fit the {CONFIG} beside it; export the anonymizer again") from error
        return f_A.eval()

    def forward(self, frames: Tensor) -> Tensor:
        if frames.dim() != 4 or frames.shape[1] != 3:
            raise ValueError(f"f_A takes frames of shape (N, 3, H, W), got {tuple(frames.shape)}; flatten clips first")
        return self.decode(self.encode(frames))

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Features of all levels: (N, C_k, H / 2^k, W / 2^k), the bottleneck last."""
        features = [self.stem(frames.contiguous(memory_format=layout(2)))]
        for block in self.down:
            features.append(block(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Frames (N, 3, H, W) from the features of ``encode``."""
        *skips, x = features
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


def digest(weights: Path) -> str:
    """SHA-256 of a file of weights, by which a config knows its own."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_config(folder: str | Path) -> dict:
    """``config.json`` of an exported anonymizer.

    Returns:
        ``width`` (channels of the first level), ``short_side`` (pixels of the frames it learned and was judged on),
        ``precision``, ``method``, ``spec`` and more.

    Raises:
        UserError: no such file, not one of ours, of a newer version, or of frames too small for f_A.
    """
    path = Path(folder) / CONFIG
    try:
        config = load_json(path)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {CONFIG}; give a folder that `spact export` made") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); copy the folder again") from error
    version = config.get("format") if isinstance(config, dict) else None
    if isinstance(version, int) and version != FORMAT:
        newer = f"newer than {FORMAT}, the newest known here; update spact"
        mend = newer if version > FORMAT else f"and not {FORMAT}; export it again"
        raise UserError(f"{path} has format {version}, {mend}")
    numbers = [config.get(name) for name in ("width", "short_side")] if version == FORMAT else []
    valid = bool(numbers) and all(type(number) is int and 0 < number <= 4096 for number in numbers)
    parts = [config.get("sha256"), config.get("spec")] if valid else []
    valid = [type(part) for part in parts] == [str, dict] and config.get("precision") in ("float32", "bfloat16")
    if not valid:
        raise UserError(f"{path} is not the config of an exported anonymizer; give a folder that `spact export` made")
    if config["short_side"] < SMALLEST:
        raise UserError(
            f"{path} says frames with a short side of {config['short_side']} pixels, but f_A takes at least "
            f"{SMALLEST}; give a folder that `spact export` made"
        )
    start = config["spec"]
    for name in ("f_T", "f_A"):  # of a game, what f_T began with; f_A's initialisation is its own start
        start = start.get(name, start) if isinstance(start, dict) else None
    view = start.get("view") if isinstance(start, dict) else None
    if not isinstance(view, dict):
        raise UserError(f"{path} holds the spec of something else; export the anonymizer again")
    learned = {
        "width": start.get("width"),
        "short_side": view.get("stored_side"),
        "precision": start.get("precision"),
    }
    for name, value in learned.items():
        if value != config[name]:
            raise UserError(f"{path} says {name} {config[name]}, and {value} in its spec; export the anonymizer again")
    return config
