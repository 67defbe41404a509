"""torch Datasets over a manifest: clips, frame pairs and images behind one interface, and their augmentation.

Every training batch is a function of (seed, step) alone. An interrupted run therefore continues with exactly the
batches that it would have seen, without any generator state in the checkpoint.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from spact_lib import distributed
from spact_lib.config import View
from spact_lib.device import pick_device
from spact_lib.errors import UserError
from spact_lib.filework import cores
from spact_lib.frame_sampling import FRAME_SAMPLERS, sample_pair
from spact_lib.manifest import Manifest
from spact_lib.video import frame_count, read_frames

# Official augmentation (facts.md): contrast, saturation, brightness 0.9-1.1, hue +-0.05, gamma 0.85-1.15.
JITTER, HUE, GAMMA = 0.1, 0.05, 0.15
LUMA = (0.299, 0.587, 0.114)
CROSS = ((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0))  # x -> (1, 1, 1) cross x


class FrameSource(Protocol):
    """Frames of the rows of one manifest, in its order."""

    def __len__(self) -> int: ...

    def n_frames(self, row: int) -> int: ...

    def read(self, row: int, indices: np.ndarray) -> np.ndarray:
        """uint8 RGB (n, h, w, 3); h and w may differ between rows."""
        ...


class VideoFrames:
    """Decodes what is asked for, when it is asked for: for datasets that do not fit on the disk as pixels.

    Its decoder has as many threads as torch has here: one in a loader's worker.
    """

    def __init__(self, manifest: Manifest, stored_side: int):
        # The manifest's own column and arrays: a path object for each of 250,000 rows would fill 80 MB.
        self.root, self.paths = manifest.root, manifest.rows["path"]
        self.starts, self.ends = frame_ranges(manifest)
        self.stored_side = stored_side
        self._counts = np.zeros(len(manifest), np.int32)  # 0: not known yet

    def __len__(self) -> int:
        return len(self.paths)

    def n_frames(self, row: int) -> int:
        if not self._counts[row]:
            end = self.ends[row] if self.ends[row] >= 0 else frame_count(self.root / self.paths.iloc[row])
            self._counts[row] = end - self.starts[row]
        return int(self._counts[row])

    def read(self, row: int, indices: np.ndarray) -> np.ndarray:
        path, threads = self.root / self.paths.iloc[row], torch.get_num_threads()
        return read_frames(path, indices + self.starts[row], self.stored_side, threads)


def frame_ranges(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """int64 (rows,) each: start and end of every row's frames [start, end); end is -1 where the file's end counts."""
    starts, ends = manifest.rows["start"], manifest.rows["end"]
    return starts.fillna(0).to_numpy(np.int64), ends.fillna(-1).to_numpy(np.int64)


def rows_of(manifest: Manifest, split: str) -> np.ndarray:
    """Numbers of the rows of one split.

    Raises:
        UserError: there are none, and the split is not "val", without which a dataset can do.
    """
    rows = np.flatnonzero(manifest.rows["split"] == split)
    if len(rows) == 0 and split != "val":
        # Imported here: only data_prep knows the official files.
        from data_prep.sources import how_to_get, how_to_prepare

        name, what = manifest.name, "add some to its manifest"
        if where := how_to_get(name):
            what = f"get the official files that have some, and prepare again: `{how_to_prepare(name)}`; {where}"
        raise UserError(f"dataset {name!r} has no row of split {split!r}; {what}")
    return rows


def clip_indices(n_frames: int, view: View, start: int) -> np.ndarray:
    """Indices of ``view.n_frames`` frames, every ``view.stride``-th from ``start``; a video too short is looped."""
    return (start + np.arange(view.n_frames) * view.stride) % n_frames


def latest_start(n_frames: int, view: View) -> int:
    """The last frame at which a whole clip still begins; 0 for a video shorter than a clip."""
    return max(0, n_frames - 1 - (view.n_frames - 1) * view.stride)


def other_start(n_frames: int, view: View, start: int, rng: np.random.Generator) -> int:
    """Where a clip of another moment begins: anywhere that it overlaps the clip at ``start`` not at all.

    A video too short for that gives a clip that begins as far from ``start`` as it can.
    """
    starts = np.arange(latest_start(n_frames, view) + 1)
    distances = np.abs(starts - start)
    span = (view.n_frames - 1) * view.stride + 1
    return int(rng.choice(starts[distances >= min(span, distances.max())]))


@dataclass(frozen=True)
class Crop:
    """Geometry of one sample, the same for all its frames: a square of ``side`` pixels, perhaps mirrored."""

    top: int
    left: int
    side: int
    mirrored: bool

    def __call__(self, frames: np.ndarray, size: int) -> Tensor:
        """uint8 (n, h, w, 3) -> uint8 (n, 3, size, size)."""
        x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (n, h, w, C) -> (n, C, h, w)
        if (self.top, self.left, self.side, self.side) == (0, 0, *x.shape[-2:]) and self.side == size:
            out = x
        else:
            out = TF.resized_crop(x, self.top, self.left, self.side, self.side, [size, size], antialias=True)
        return TF.horizontal_flip(out) if self.mirrored else out


def random_crop(h: int, w: int, view: View, rng: np.random.Generator) -> Crop:
    """A square anywhere in the frame, ``view.crop`` of its short side (uniform); mirrored with ``view.flip``."""
    side = max(1, round(min(h, w) * rng.uniform(*view.crop)))
    return Crop(int(rng.integers(h - side + 1)), int(rng.integers(w - side + 1)), side, bool(rng.random() < view.flip))


def centre_crop(h: int, w: int, view: View) -> Crop:
    """The central square of ``view.test_crop`` times the short side."""
    side = max(1, round(min(h, w) * view.test_crop))
    return Crop((h - side) // 2, (w - side) // 2, side, False)


def draw_colours(view: View, rng: np.random.Generator) -> np.ndarray:
    """Parameters of ``apply_colours`` for one sample, float32 (10,)."""
    contrast, saturation, brightness = rng.uniform(1 - JITTER, 1 + JITTER, 3)
    hue = rng.uniform(-HUE, HUE)
    gray = float(rng.random() < view.gray)
    gamma = rng.uniform(1 - GAMMA, 1 + GAMMA)
    extent = rng.uniform(0, view.erase, 2)
    corner = rng.uniform(0, 1 - extent)
    return np.array([contrast, saturation, brightness, hue, gray, gamma, *corner, *extent], dtype=np.float32)


def apply_colours(clips: Tensor, parameters: Tensor) -> Tensor:
    """Colour augmentation and erasing, each sample with its own parameters, all frames of a sample with the same.

    Args:
        clips: (B, T, 3, H, W) in [0, 1].
        parameters: (B, 10) of ``draw_colours``: contrast, saturation, brightness, hue in turns, gray (0/1), gamma, and
            the erased box (top, left, height, width as fractions).

    Returns:
        (B, T, 3, H, W) in [0, 1]. Hue is a rotation about the gray axis, not torchvision's HSV shift: the same
        small change of tint, in one matrix product.
    """
    contrast, saturation, brightness, hue, gray, gamma = parameters[:, :6, None, None, None, None].unbind(1)
    luma = _constant(LUMA, clips.device).view(3, 1, 1)

    def grayscale(x: Tensor) -> Tensor:
        return (x * luma).sum(2, keepdim=True)

    mean = grayscale(clips).mean((1, 2, 3, 4), keepdim=True)
    x = (mean + contrast * (clips - mean)).clamp(0, 1)
    g = grayscale(x)
    x = (g + saturation * (x - g)).clamp(0, 1) * brightness
    x = torch.einsum("bij,btjhw->btihw", _hue_rotation(hue.flatten()), x).clamp(0, 1)
    x = torch.where(gray > 0, grayscale(x), x)
    x = x.clamp_min(1e-6) ** gamma  # the derivative of x ** gamma is infinite at 0 where gamma < 1
    h, w = clips.shape[-2:]
    top, left, height, width = parameters[:, 6:, None].unbind(1)
    ys, xs = (torch.arange(n, device=clips.device) / n for n in (h, w))
    rows, columns = (ys >= top) & (ys < top + height), (xs >= left) & (xs < left + width)
    erased = rows[:, None, None, :, None] & columns[:, None, None, None, :]
    return x.masked_fill(erased, 0.0)


def _hue_rotation(turns: Tensor) -> Tensor:
    """(B,) -> (B, 3, 3): rotation of RGB about the axis (1, 1, 1)."""
    angle = 2 * torch.pi * turns[:, None, None]
    eye = torch.eye(3, device=turns.device)
    cross = _constant(CROSS, turns.device) / 3**0.5
    return eye * angle.cos() + (1 - angle.cos()) / 3 + cross * angle.sin()


@cache
def _constant(values: tuple, device: torch.device) -> Tensor:
    # Made once: a copy to a GPU waits for all that it still has to do.
    return torch.tensor(values, device=device)


class ClipDataset(Dataset):
    """Clips (or single frames: ``view.n_frames`` 1) with labels, and optionally a pair of frames of S_F.

    Args:
        source: the frames.
        rows: which rows of the source belong to this part (train, val, test).
        labels: (rows of source,) int64 or (rows of source, K) uint8, sparse or not, or None.
        view: sizes and augmentation.
        seed: of everything random, together with (step, position) of the sample.
        sampler: a name of ``FRAME_SAMPLERS``: also return a pair of frames from anywhere in the video, cropped and
            coloured like the clip; None: no pair.
        pair_frames: more than 1: the pair is two clips of so many frames, ``view.stride`` apart.
        further: moments of further training clips of the video, each with a crop and colours of its own: "same" (the
            clip's frames) or "other" (``other_start``). Clip and pair stay what they are without them.
        clips: False: no clip is read; pairs stay what they are beside clips.

    A training sample is asked for by (row, step, position in the batch), a test sample by (row, k): the k-th of
    ``view.test_clips`` evenly spaced clips. Both are dicts: ``clip`` uint8 (T, 3, size, size), ``pair`` uint8
    (2 * pair_frames, 3, size, size), ``colours`` float32 (10,), ``label``, ``further`` uint8 (M * T, 3, size, size)
    and ``further_colours`` float32 (M, 10).
    """

    def __init__(
        self,
        source: FrameSource,
        rows: np.ndarray,
        labels: np.ndarray | csr_array | None,
        view: View,
        *,
        seed: int = 0,
        sampler: str | None = None,
        pair_frames: int = 1,
        further: Sequence[str] = (),
        clips: bool = True,
    ):
        self.source, self.rows, self.labels, self.view = source, np.asarray(rows), labels, view
        self.seed, self.sampler, self.pair_frames, self.further = seed, sampler, pair_frames, tuple(further)
        self.clips = clips

    def __len__(self) -> int:
        return len(self.rows)

    def labels_of(self, rows: np.ndarray) -> Tensor:
        """Labels of rows of the source: int64 (n,), or uint8 (n, K)."""
        labels = self.labels[rows]
        return torch.from_numpy(labels.toarray() if issparse(labels) else labels)

    @property
    def test_clips(self) -> int:
        """Test samples of every row: ``view.test_clips``, but one where every row is a still."""
        stills = self.view.test_clips > 1 and all(self.source.n_frames(int(row)) == 1 for row in self.rows)
        return 1 if stills else self.view.test_clips

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Tensor]:
        row = int(self.rows[key[0]])
        n, view = self.source.n_frames(row), self.view
        rng = np.random.default_rng([self.seed, *key[1:]]) if len(key) == 3 else None
        if rng is None:
            start = int(np.linspace(0, latest_start(n, view), view.test_clips).round()[key[1]])
        else:
            start = int(rng.integers(latest_start(n, view) + 1))
        indices = clip_indices(n, view, start) if self.clips else np.empty(0, np.int64)
        length = len(indices)
        if self.sampler is not None and rng is not None:
            further = np.arange(self.pair_frames) * view.stride
            starts = sample_pair(max(1, n - further[-1]), rng, *FRAME_SAMPLERS[self.sampler])
            indices = np.concatenate([indices, (starts[:, None] + further).ravel() % n])
        own, moments = len(indices), self.further if rng is not None else ()
        apart = rng.spawn(1)[0] if moments else None  # draws nothing from ``rng``
        for moment in moments:
            at = start if moment == "same" else other_start(n, view, start, apart)
            indices = np.concatenate([indices, clip_indices(n, view, at)])
        frames = self.source.read(row, indices)  # once: a video is decoded once, whatever is asked of it
        h, w = frames.shape[1:3]
        further = frames[own:].reshape(len(moments), view.n_frames, h, w, 3) if moments else ()
        crop = centre_crop(h, w, view) if rng is None else random_crop(h, w, view, rng)
        frames = crop(frames[:own], view.size)
        sample = {"clip": frames[:length]} if length else {}
        if len(frames) > length:
            sample["pair"] = frames[length:]
        if rng is not None:
            sample["colours"] = torch.from_numpy(draw_colours(view, rng))
        if moments:
            sample["further"] = torch.cat([random_crop(h, w, view, apart)(clip, view.size) for clip in further])
            sample["further_colours"] = torch.from_numpy(np.stack([draw_colours(view, apart) for _ in moments]))
        if self.labels is not None:
            sample["label"] = self.labels_of(np.array([row]))[0]
        return sample


class StepSampler:
    """Keys (row, step, position) of the batches of steps ``first`` to ``last`` - 1: a new permutation every epoch.

    No row comes twice in a batch (a video would be its own negative in NT-Xent): a batch never crosses an epoch's end
    and is never larger than the data. Of many processes each gets its part of the batch that one alone would get.

    Raises:
        UserError: the batch cannot be shared evenly.
    """

    def __init__(self, n_rows: int, batch_size: int, seed: int, first: int, last: int):
        self.n_rows, self.batch_size, self.seed = n_rows, min(batch_size, n_rows), seed
        self.first, self.last = first, last
        self.part, ranks = distributed.own_part(self.batch_size), distributed.which()[1]
        if self.batch_size % ranks:
            raise UserError(
                f"{ranks} processes cannot share a batch of {self.batch_size} evenly; start a number that divides it"
            )

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        per_epoch = self.n_rows // self.batch_size
        epoch, order = -1, np.empty(0, int)
        for step in range(self.first, self.last):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.default_rng([self.seed, epoch]).permutation(self.n_rows)
            at = step % per_epoch * self.batch_size
            yield [(int(row), step, k) for k, row in enumerate(order[at : at + self.batch_size])][self.part]


_waited = 0.0


def waited() -> float:
    """Seconds that this process has waited for batches so far (without workers: in which it has made them)."""
    return _waited


class _Loader(DataLoader):
    """A loader whose reader's waiting is counted."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        global _waited
        began, batches = time.perf_counter(), super().__iter__()
        try:
            for batch in batches:
                _waited += time.perf_counter() - began
                yield batch
                began = time.perf_counter()
        except UserError as error:
            _, of_a_worker, sentence = str(error).rpartition(f"\n{UserError.__module__}.UserError: ")
            if not of_a_worker:
                raise
            raise UserError(sentence.strip()) from None  # without the worker's traceback, which torch puts before it
        _waited += time.perf_counter() - began


def loader_workers(at_most: int) -> int:
    """Processes that load data beside a training one: none where none are asked for, else what its machine has left."""
    share = cores() // max(1, torch.cuda.device_count())  # a training process for each GPU
    return min(at_most, max(1, share - 1))


def halved(workers: int) -> int:
    """Of each of two loaders that are read in turn: together as many as one alone would have, but one each at least."""
    return max(1, workers // 2) if workers else 0


def training_batches(dataset: ClipDataset, batch_size: int, first: int, last: int, workers: int = 0) -> DataLoader:
    """Batches of steps ``first`` to ``last`` - 1."""
    sampler = StepSampler(len(dataset), batch_size, dataset.seed, first, last)
    return _Loader(dataset, batch_sampler=sampler, num_workers=workers, pin_memory=pick_device().type == "cuda")


def test_batches(dataset: ClipDataset, batch_size: int, workers: int = 0) -> DataLoader:
    """All test clips, in order: ``test_clips`` consecutive samples per row.

    Of many processes each gets its part of these batches, perhaps none; ``distributed.gathered`` joins what they find.
    """
    clips = dataset.test_clips  # once: it looks at every row
    keys = [(row, k) for row in range(len(dataset)) for k in range(clips)]
    batches = [keys[at : at + batch_size] for at in range(0, len(keys), batch_size)]
    batches = batches[distributed.own_part(len(batches))]
    return _Loader(dataset, batch_sampler=batches, num_workers=workers, pin_memory=pick_device().type == "cuda")


AHEAD = 512  # frames of a row that a worker reads, so most of UCF101's whole; what is longer, who asks reads on


class _Beginnings(Dataset):
    """Row -> the row, how many frames it has, and the first ``at_most`` of them."""

    def __init__(self, source: FrameSource, at_most: int):
        self.source, self.at_most = source, at_most

    def __getitem__(self, row: int) -> tuple[int, int, Tensor]:
        n = self.source.n_frames(row)  # it opens the file: that, too, the workers do
        frames = self.source.read(row, np.arange(min(n, self.at_most))) if n else np.empty((0, 1, 1, 3), np.uint8)
        return row, n, torch.from_numpy(np.ascontiguousarray(frames))


def all_frames(
    source: FrameSource, rows: np.ndarray, at_once: int, workers: int = 0
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """All frames of ``rows`` in order, ``at_once`` of a row or fewer at a time: row, their numbers, uint8 (n, h, w, 3).

    Workers read ahead of who asks, two rows each.
    """
    beginnings = _Beginnings(source, AHEAD // at_once * at_once if workers else at_once)
    order = [int(row) for row in rows]
    loader = _Loader(beginnings, sampler=order, batch_size=None, collate_fn=tuple, num_workers=workers)
    for row, n, frames in loader:
        for at in range(0, n, at_once):
            numbers = np.arange(at, min(at + at_once, n))
            read = frames[at : at + at_once].numpy() if at < len(frames) else source.read(row, numbers)
            yield row, numbers, read


def to_float(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move a batch to the device and finish it there: uint8 -> [0, 1], colours applied to clip and pair alike, and to
    each further clip its own."""
    batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    colours = batch.pop("colours", None)
    for key in ("clip", "pair"):
        if key in batch:
            x = batch[key].float() / 255
            batch[key] = x if colours is None else apply_colours(x, colours)
    if "further" in batch:
        own = batch.pop("further_colours")  # (B, M, 10)
        clips = batch["further"].unflatten(1, (own.shape[1], -1)).flatten(0, 1)  # (B, M * T, ...) -> (B * M, T, ...)
        coloured = apply_colours(clips.float() / 255, own.flatten(0, 1))
        batch["further"] = coloured.unflatten(0, own.shape[:2]).flatten(1, 2)  # -> (B, M * T, ...)
    return batch
