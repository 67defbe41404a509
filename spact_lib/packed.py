"""Decoded frames in one file: written once, continued when interrupted, read often, flat in memory."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from spact_lib import training
from spact_lib.data import frame_ranges
from spact_lib.device import environment
from spact_lib.errors import UserError
from spact_lib.files import atomic_path, disk_errors
from spact_lib.manifest import Manifest, refuse_faults, refuse_missing
from spact_lib.video import iter_frames

PACKED = {"frames.bin": np.uint8, "frames.f32": np.float32}  # float frames are on the scale of the bytes, 0 to 255

Group = list[tuple[int, np.ndarray]]  # blocks (row, frames (n, h, w, 3))


class PackedFrames:
    """Decoded frames in one memory-mapped file."""

    def __init__(self, folder: Path):
        self.index = np.load(folder / "index.npy")  # (rows, 4): offset in values, frames, height, width
        self.path = next((folder / name for name in PACKED if (folder / name).exists()), folder / "frames.bin")
        self._pixels: np.ndarray | None = None

    def __getstate__(self) -> dict:  # for spawned workers, which open the file themselves
        return self.__dict__ | {"_pixels": None}

    def __len__(self) -> int:
        return len(self.index)

    def n_frames(self, row: int) -> int:
        return int(self.index[row, 1])

    def read(self, row: int, indices: np.ndarray) -> np.ndarray:
        if self._pixels is None:
            self._pixels = np.memmap(self.path, dtype=PACKED[self.path.name], mode="r")
        offset, n, h, w = self.index[row]
        return self._pixels[offset : offset + n * h * w * 3].reshape(n, h, w, 3)[indices]


def write_packed(
    folder: Path, rows: int, groups: Callable[[int], Iterator[Group]], label: str, name: str = "frames.bin"
) -> dict:
    """Write ``index.npy`` and ``name`` (of ``PACKED``), or go on with them where an interrupted call stopped.

    Args:
        groups: first -> the blocks of all rows from this one on, in their order, in groups. It is asked to begin only
            at rows that begin a group, so that what a group has in common (a batch) is as if undisturbed.
        label: for the progress bar, which counts rows.

    Returns:
        ``seconds`` of all parts of this, and ``elsewhere``, as ``training.Run.course`` has them.

    Raises:
        UserError: what ``groups`` raises. What was written before is kept, as after any other end.
        DiskError: the disk is full or read-only.
    """
    part, kept = folder / f"{name}.part", folder / "index.part.npz"
    with disk_errors(part):
        folder.mkdir(parents=True, exist_ok=True)
        return _write(folder / name, part, kept, rows, groups, label)


def _write(path: Path, part: Path, kept: Path, rows: int, groups: Callable[[int], Iterator[Group]], label: str) -> dict:
    dtype, here = np.dtype(PACKED[path.name]), environment()
    index, seconds, environments = _kept(part, kept, dtype) or (np.zeros((rows, 4), np.int64), 0.0, [])
    elsewhere = [each for each in environments if each != here]
    offset, done = _values(index), int(np.flatnonzero(index[:, 1]).max(initial=-1))
    saved = began = time.monotonic()
    with open(part, "r+b" if offset else "wb") as file, tqdm(None, label, rows, initial=done + 1, disable=None) as bar:
        file.truncate(offset * dtype.itemsize)
        file.seek(0, os.SEEK_END)
        for group in groups(done + 1):
            if group[0][0] > done and time.monotonic() - saved > training.CHECKPOINT_SECONDS:
                _sync(file)
                saved = time.monotonic()
                with atomic_path(kept) as temporary:
                    texts = json.dumps([here, *elsewhere])
                    np.savez(temporary, index=index, seconds=seconds + saved - began, environments=texts)
            for done, block in group:
                if index[done, 1] == 0:
                    index[done] = offset, 0, *block.shape[1:3]
                index[done, 1] += len(block)
                file.write(np.ascontiguousarray(block, dtype=dtype))
                offset += block.size
            bar.update(done + 1 - bar.n)
        _sync(file)
    with atomic_path(path.parent / "index.npy") as temporary:
        np.save(temporary, index)
    os.replace(part, path)
    kept.unlink(missing_ok=True)
    times = {"seconds": seconds + time.monotonic() - began}
    return times | ({"elsewhere": elsewhere} if elsewhere else {})


def _kept(part: Path, kept: Path, dtype: np.dtype) -> tuple[np.ndarray, float, list[dict]] | None:
    """Index, seconds and environments of what an interrupted call has written; None: nothing that can be used."""
    try:
        with np.load(kept) as found:
            index, seconds = found["index"], float(found["seconds"])
            environments = json.loads(str(found["environments"]))
        return (index, seconds, environments) if part.stat().st_size >= _values(index) * dtype.itemsize else None
    except Exception:  # of many kinds, numpy's for a damaged archive among them; nothing but time is lost
        return None


def _values(index: np.ndarray) -> int:
    return 3 * int(index[:, 1:].prod(1).sum())


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def pack(manifest: Manifest, stored_side: int, folder: Path) -> dict:
    """Decode every row of a manifest once, at ``stored_side`` pixels of short side, into ``folder``.

    Returns:
        As ``write_packed``.

    Raises:
        UserError: files are missing (all are named at once), unreadable, or a range lies beyond a video's end (these
            are counted, and the first is named).
    """
    refuse_missing(manifest)

    def frames(path: Path, start: int, end: int) -> Iterator[np.ndarray]:
        seen = 0
        for position, frame in enumerate(iter_frames(path, stored_side, torch.get_num_threads())):
            if position >= start and (end < 0 or position < end):
                seen += 1
                yield frame[None]
            if 0 <= end <= position + 1:
                break
        if seen == 0 or seen < end - start:
            wanted = f"frames {start} to {end}" if end >= 0 else f"frame {start}"
            raise UserError(f"{path} ends before {wanted} of its row in {manifest.name!r}; correct the range")

    (starts, ends), paths = frame_ranges(manifest), manifest.rows["path"]
    faults: dict[str, str] = {}  # path -> the first one's sentence

    def groups(first: int) -> Iterator[Group]:
        for row in range(first, len(paths)):
            if manifest.rows["split"].iloc[row] == "unused":
                continue
            try:
                for frame in frames(manifest.root / paths.iloc[row], int(starts[row]), int(ends[row])):
                    if not faults:
                        yield [(row, frame)]
            except UserError as error:
                faults.setdefault(paths.iloc[row], str(error))
        refuse_faults(manifest, faults)

    return write_packed(folder, len(paths), groups, f"decode {manifest.name}")
