"""Obfuscation baselines (Sec. 4.2): persons are found by a detector, then blackened or blurred.

A detector gives boxes (K, 4) of each frame: x0, y0, x1, y1 as fractions of width and height. "coco" is torchvision's
Faster R-CNN with its official COCO weights (the paper: a COCO YOLO); "oracle" are the actor's boxes that the built-in
data store, because a COCO detector knows no critters; "marked" are those that the table of one's own data names, for
its whole row, as for a camera that does not move. Blur strengths, threshold and detector are "ours".
"""

import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights,
)
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.transforms.v2 import functional as TF

from spact_lib.device import pick_device
from spact_lib.errors import MissingError, UserError, unknown_name
from spact_lib.manifest import PERSONS, Manifest
from spact_lib.video import probe

STRONG, WEAK = 10 / 112, 3 / 112  # standard deviation of the blur, of the frame's short side
PERSON = 1  # in COCO's classes
MIN_SCORE = 0.5

Detector = Callable[[int, np.ndarray, np.ndarray], list[np.ndarray]]


def blacken(frames: Tensor, persons: Tensor) -> Tensor:
    """Black where ``persons`` (N, 1, H, W) is 1. Shape: (N, 3, H, W) -> same."""
    return frames * (1 - persons)


def blur(frames: Tensor, persons: Tensor, strength: float) -> Tensor:
    """Gaussian blur where ``persons`` is 1, of ``strength`` times the short side."""
    somebody = persons.flatten(1).any(1)
    if not somebody.all():
        out = frames.clone()
        if somebody.any():
            out[somebody] = blur(frames[somebody], persons[somebody], strength)
        return out
    sigma = strength * min(frames.shape[-2:])
    # Beyond three deviations there is nothing left; reflection at the rim allows no wider kernel than the frame.
    reach = min(int(3 * sigma + 0.5), min(frames.shape[-2:]) - 1)
    blurred, taps = frames, 2 * reach + 1
    # Rows, then columns: torchvision would do both in one convolution of taps x taps, 67,081 for a frame of 640x480.
    for kernel in ([taps, 1], [1, taps]):
        blurred = TF.gaussian_blur(blurred, kernel, [sigma] * 2)
    return torch.where(persons > 0, blurred, frames)


OBFUSCATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "obf_blackening": blacken,
    "obf_strong_blur": lambda frames, persons: blur(frames, persons, STRONG),
    "obf_weak_blur": lambda frames, persons: blur(frames, persons, WEAK),
}


def obfuscation(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """By name: frames (N, 3, H, W) in [0, 1], persons (N, 1, H, W) of 0 and 1 -> frames."""
    if name not in OBFUSCATIONS:
        raise unknown_name("obfuscation", name, OBFUSCATIONS)
    return OBFUSCATIONS[name]


def mask(boxes: list[np.ndarray], height: int, width: int) -> Tensor:
    """Boxes of each frame -> (N, 1, height, width) of 0 and 1; a pixel that a box touches counts as inside."""
    out = torch.zeros(len(boxes), 1, height, width)
    for frame, found in zip(out, boxes, strict=True):
        for x0, y0, x1, y1 in found * [width, height, width, height]:
            frame[:, max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))] = 1
    return out


def detector(kind: str, folder: Path, manifest: Manifest) -> Detector:
    """(row, frame numbers within the row (n,), frames uint8 (n, h, w, 3)) -> the boxes of each frame.

    Args:
        kind: "oracle", "coco" or "marked".
        folder: of the prepared dataset, with boxes.npz for "oracle".

    Raises:
        UserError: the boxes are not stored, what is marked is no box, or the detector's weights are neither on this
            machine nor to be had.
    """
    if kind == "marked":
        boxes = marked_persons(manifest)
        return lambda row, indices, frames: [boxes[row]] * len(indices)
    return _oracle(folder, manifest) if kind == "oracle" else coco()


def marked_persons(manifest: Manifest) -> list[np.ndarray]:
    """The boxes (K, 4) of each row, by its column ``persons``: "x0 y0 x1 y1" as fractions of width and height, boxes
    joined by "|", empty where nobody is.

    Raises:
        UserError: what is no box; names the row's file.
    """
    found = []
    for path, cell in zip(manifest.rows["path"], manifest.rows[PERSONS].fillna(""), strict=True):
        parts = [part.split() for part in cell.split("|") if part.strip()]
        try:
            boxes = np.array(parts, float).reshape(len(parts), 4)
        except ValueError:
            boxes = np.full((1, 4), np.nan)
        if not ((0 <= boxes) & (boxes <= 1)).all() or not (boxes[:, :2] < boxes[:, 2:]).all():
            raise UserError(
                f"{PERSONS} of {path} in dataset {manifest.name!r} is {cell!r}; write boxes as x0 y0 x1 y1, from 0 "
                '(left, top) to 1, joined by "|"'
            )
        found.append(boxes)
    return found


def _oracle(folder: Path, manifest: Manifest) -> Detector:
    path = folder / "boxes.npz"
    if not path.exists():
        raise UserError(f"there is no {path}: only the built-in data store boxes; elsewhere say boxes='coco'")
    with np.load(path, allow_pickle=False) as stored:
        boxes = dict(zip(stored["path"].tolist(), stored["boxes"], strict=True))  # (frames, 4) in pixels

    def find(row: int, indices: np.ndarray, frames: np.ndarray) -> list[np.ndarray]:
        entry = manifest.rows.iloc[row]
        info = probe(manifest.root / entry["path"])
        first = 0 if pd.isna(entry["start"]) else int(entry["start"])
        size = np.array([info.width, info.height, info.width, info.height])
        return [boxes[entry["path"]][first + int(i)][None] / size for i in indices]

    return find


def detector_weights() -> Path:
    """Where torch keeps the COCO detector's weights once they are downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Weights.DEFAULT.url.rsplit("/", 1)[-1]


def refuse_without_weights() -> None:
    """Download the detector's weights if they are not there; UserError says where to put them if that fails."""
    if not detector_weights().exists():
        _coco_network()


def _coco_network() -> nn.Module:
    try:
        # torchvision would unpickle whatever has been downloaded; so torch takes nothing but tensors.
        with patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):
            return fasterrcnn_mobilenet_v3_large_320_fpn(weights=Weights.DEFAULT).eval()
    except Exception as error:  # no network, a damaged file, or one that holds something else
        where = f"put {Weights.DEFAULT.url} at {detector_weights()}"
        kind = UserError if detector_weights().exists() else MissingError
        raise kind(f"the person detector's weights cannot be downloaded ({error}); {where}") from error


def coco() -> Detector:
    """``detector`` "coco", which asks for frames alone; the numbers of row and frames are free."""
    device = pick_device()
    network = _coco_network().to(device)

    @torch.no_grad()
    def find(row: int, indices: np.ndarray, frames: np.ndarray) -> list[np.ndarray]:
        n, height, width = frames.shape[:3]
        found = []
        for at in range(0, n, 16):
            batch = torch.from_numpy(np.ascontiguousarray(frames[at : at + 16])).permute(0, 3, 1, 2)
            for seen in network(list(batch.to(device).float() / 255)):
                person = (seen["labels"] == PERSON) & (seen["scores"] >= MIN_SCORE)
                found.append(seen["boxes"][person].cpu().numpy() / [width, height, width, height])
        return found

    return find
