"""A smaller copy of a dataset's files, written once, for those who train many epochs on it.

Every file becomes a small MPEG-4 video with frequent keyframes, at a short side and a frame rate of one's choice; a
still becomes a video of one frame. (H.264 of the same size and fidelity takes more than twice as long to decode.)
The copy is a dataset like any other, with frame ranges converted. Its manifest.csv is written last: what is half done
is never read, and the same command continues it. Run again on a finished copy, it compares every file with its
checksum and makes those anew that are gone, damaged, or whose source has changed; the manifest stays meanwhile.
"""

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock

from spact_lib.errors import UserError
from spact_lib.files import atomic_path, load_json, remove_leftovers, write_json
from spact_lib.filework import Record, work_through
from spact_lib.manifest import Manifest, read_manifest, refuse_faults, set_aside, write_manifest
from spact_lib.probing import PLAUSIBLE_RATES, used_paths
from spact_lib.video import iter_frames, probe, read_frames, write_video

KEYFRAME_EVERY = 12  # frames: a clip that begins anywhere decodes at most 11 frames too many
CLIP_FRAMES, CLIP_STRIDE = 16, 2  # what the benchmark reads at a time: the paper's clip
TIMED_VIDEOS, TIMED_CLIPS = 20, 3  # at most; of each of them


def build_cache(
    dataset: str | Path, out: str | Path, *, short_side: int, fps: float | None = None, stop: bool = False
) -> dict:
    """Write the copy of ``dataset`` (a folder with manifest.csv, or a CSV) to folder ``out``; returns its cache.json.

    Args:
        short_side: of the stored frames in pixels, even; smaller frames are not enlarged.
        fps: frames per second; None: each file keeps its own. A constant rate is assumed in the source; of a rate that
            cannot be (``PLAUSIBLE_RATES``), every frame is kept once.
        stop: make no dataset where a file cannot be copied; what was copied stays for the next call, as does a dataset
            that an earlier call has made.

    Files that are missing, unreadable or shorter than their row are listed in ``out/problems.csv`` and their rows
    become "unused".

    Raises:
        UserError: no usable size or rate, ``out`` holds something else, no file could be converted, or not all of them
            and ``stop``.
        DiskError: the disk is full; no rows are set aside for that.
    """
    if short_side < 16 or short_side % 2:
        raise UserError(f"the short side must be even and at least 16 pixels, not {short_side}")
    if fps is not None and not 0 < fps < 1000:
        raise UserError(f"{fps} frames per second is no rate; give one above 0 and below 1000")
    began, out, source = time.perf_counter(), Path(out), read_manifest(dataset)
    settings = {"source": str(source.root.resolve()), "short_side": short_side, "fps": fps}
    _refuse_other(out, settings)  # before a lock is put into it
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".building.lock"):
        _refuse_other(out, settings)  # another process may have begun meanwhile
        if not (out / "cache.json").exists():
            write_json(out / "cache.json", settings)
        remove_leftovers(out)
        convert = partial(_convert, str(source.root), str(out / "files"), short_side, fps)
        done = work_through(
            convert, source.root, used_paths(source), out / "cache.jsonl", f"cache {source.name}", partial(_holds, out)
        )
        good = done[done["error"] == ""]
        if good.empty:
            why = f"; first: {done['error'].iloc[0]}" if len(done) else ""
            raise UserError(f"no file of {source.name!r} under {source.root} could be converted{why}")
        rows, problems = _converted_rows(source, done)
        with atomic_path(out / "problems.csv") as temporary:
            problems.to_csv(temporary, index=False, lineterminator="\n")
        if stop:
            refuse_faults(source, {row.path: _sentence(source.root, row) for row in problems.itertuples(index=False)})
        copy = Manifest(source.name, out / "files", source.tasks, rows)
        made = {
            "files": len(good),
            "new": done.attrs["new"] - (len(done) - len(good)),  # what fails is tried in every run
            "problems": int(problems["path"].nunique()),
            "bytes": int(good["bytes"].sum()),
            "source_bytes": int(good["size"].sum()),
            "decode": decode_speedup(source, copy, short_side),
            "seconds": round(time.perf_counter() - began, 1),
        }
        write_json(out / "cache.json", settings | {"made": made})
        write_manifest(copy, out)
    return made


def _refuse_other(out: Path, settings: dict) -> None:
    """Refuse a folder that holds anything but a copy with these settings."""
    note = out / "cache.json"
    # Listed before the note is looked for: what another process begins meanwhile begins with its note.
    holds_files = out.exists() and any(not path.name.startswith(".") for path in out.iterdir())
    if note.exists():
        try:
            found = dict(load_json(note))
        except (ValueError, TypeError) as error:
            raise UserError(f"{note} is damaged ({error}); delete {out}, or name another --out") from error
        for name, value in settings.items():
            if found.get(name) != value:
                raise UserError(
                    f"{out} holds a copy with {name} {found.get(name)!r}, not {value!r}; name another --out"
                )
    elif holds_files:
        raise UserError(f"{out} is not empty and holds no copy of a dataset; name another --out")


def _holds(out: Path, path: str, record: Record) -> bool:
    """Whether the copy of a file is there and every byte of it as it was when it was verified."""
    file = _target(out / "files", path)
    return file.is_file() and file.stat().st_size == record["bytes"] and _sha256(file) == record.get("sha256")


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _target(files: Path, path: str) -> Path:
    return files / f"{path}.mp4"  # the old suffix stays: a.avi and a.mp4 may lie side by side


def _convert(root: str, files: str, short_side: int, fps: float | None, path: str) -> Record:
    """Write the copy of one file and read it back."""
    source, target = Path(root, path), _target(Path(files), path)
    info = probe(source)
    # A header may say a frame in an hour; to fill that hour would fill the disk.
    known = info.fps if PLAUSIBLE_RATES[0] <= info.fps <= PLAUSIBLE_RATES[1] else 0.0
    rate = fps or known or 25.0
    repeats = np.bincount(kept_frames(info.frames, known, rate), minlength=info.frames)
    frames = (
        # Players want even sizes: a last odd column or row is left out.
        frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
        for repeat, frame in zip(repeats, iter_frames(source, min(short_side, info.width, info.height)), strict=False)
        for _ in range(repeat)
    )
    write_video(target, frames, rate, "mpeg4", keyframe_every=KEYFRAME_EVERY)
    expected, counted, decoded = int(repeats.sum()), probe(target).frames, sum(1 for _ in iter_frames(target))
    if not expected == counted == decoded:
        target.unlink()
        raise UserError(f"{source}: {expected} frames were to be copied, {decoded} came out; replace the file")
    return {
        "source_frames": info.frames,
        "source_fps": known,
        "frames": expected,
        "fps": rate,
        "bytes": target.stat().st_size,
        "sha256": _sha256(target),
    }


def kept_frames(frames: int, source_fps: float, fps: float) -> np.ndarray:
    """For every frame of the copy the number of the frame it shows: the one at the middle of its time."""
    if frames == 1 or not source_fps:
        return np.arange(frames)
    count = max(1, round(frames * fps / source_fps))
    return np.minimum((np.arange(count) + 0.5) * source_fps / fps, frames - 1).astype(np.int64)


def convert_range(start: int, end: int, kept: np.ndarray) -> tuple[int, int]:
    """Frames [start, end) of the source as a range of the copy, never empty."""
    first = min(int(np.searchsorted(kept, start)), len(kept) - 1)
    return first, max(int(np.searchsorted(kept, end)), first + 1)


def _converted_rows(source: Manifest, done: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the copy, and the files (path, problem, detail) whose rows it could not take over."""
    rows, problems, converted, lost = source.rows, [], [], []
    records = done.to_dict("index")
    for row in rows[["path", "split", "start", "end"]].itertuples(index=False):
        start, end = (None if pd.isna(value) else int(value) for value in (row.start, row.end))
        record, problem = records.get(row.path), None
        if row.split == "unused":
            problem = ()
        elif record is None:
            problem = (row.path, "missing", "")
        elif record["error"]:
            problem = (row.path, "unreadable", record["error"])
        elif (end or (start or 0) + 1) > record["source_frames"]:
            problem = (row.path, "shorter than its rows", f"the file has {record['source_frames']:.0f} frames")
        lost.append(bool(problem))
        if problem:
            problems.append(problem)
        if problem is not None:
            converted.append(("unused", None, None))
        elif start is None and end is None:
            converted.append((row.split, None, None))
        else:
            kept = kept_frames(int(record["source_frames"]), record["source_fps"], record["fps"])
            converted.append((row.split, *convert_range(start or 0, end or int(record["source_frames"]), kept)))
    splits, starts, ends = zip(*converted, strict=True)
    ranges = {name: pd.array(values, dtype="Int64") for name, values in (("start", starts), ("end", ends))}
    table = pd.DataFrame(problems, columns=["path", "problem", "detail"]).drop_duplicates("path")
    if any(lost):  # a score on the copy is one without these rows, and says so (``manifest.rows_set_aside``)
        rows = set_aside(source, np.array(lost)).rows
    return rows.assign(path=rows["path"] + ".mp4", split=splits, **ranges), table


def _sentence(root: Path, row: NamedTuple) -> str:
    if row.problem == "unreadable":
        return row.detail
    return f"{root / row.path} is {row.problem}" + (f": {row.detail}" if row.detail else "")


def decode_speedup(source: Manifest, copy: Manifest, short_side: int) -> dict:
    """How long a clip takes to decode from the source and from the copy, in turns, in this process.

    Every file is read once untimed, so that neither the disk nor the search for keyframes counts.

    Returns:
        ``clips``, ``source_ms``, ``copy_ms`` (mean of a clip) and ``ratio``.
    """
    used = np.flatnonzero(copy.rows["split"] != "unused")
    chosen = used[np.linspace(0, len(used) - 1, min(TIMED_VIDEOS, len(used))).astype(int)]
    rng, seconds = np.random.default_rng(0), np.zeros(2)
    for row in chosen:
        paths = [manifest.root / manifest.rows["path"].iloc[row] for manifest in (source, copy)]
        for clip in range(TIMED_CLIPS + 1):
            part = rng.random()
            for side, path in enumerate(paths):
                n = probe(path).frames
                indices = (int(part * n) + np.arange(CLIP_FRAMES) * CLIP_STRIDE) % n
                began = time.perf_counter()
                read_frames(path, indices, size=short_side)
                if clip:
                    seconds[side] += time.perf_counter() - began
    count = TIMED_CLIPS * len(chosen)
    source_ms, copy_ms = (round(1000 * float(each) / count, 2) for each in seconds)
    ratio = round(float(seconds[0] / seconds[1]), 2)
    return {"clips": count, "source_ms": source_ms, "copy_ms": copy_ms, "ratio": ratio}
