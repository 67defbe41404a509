"""What the files of a dataset really hold: every packet read, the first frame decoded, every byte hashed."""

import hashlib
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd

from spact_lib.errors import UserError
from spact_lib.filework import Record, work_through
from spact_lib.manifest import Manifest
from spact_lib.video import probe

# FFmpeg's names of the formats that a file with this suffix may hold.
CONTAINERS = {
    ".avi": ("avi",),
    ".jpeg": ("jpeg_pipe", "image2"),
    ".jpg": ("jpeg_pipe", "image2"),
    ".m4v": ("mov",),
    ".mkv": ("matroska",),
    ".mov": ("mov",),
    ".mp4": ("mov",),
    ".mpeg": ("mpeg",),
    ".mpg": ("mpeg",),
    ".png": ("png_pipe", "image2"),
    ".webm": ("matroska",),
}
PLAUSIBLE_RATES = (1, 240)  # frames per second


def used_paths(manifest: Manifest) -> list[str]:
    """The files of rows in use, each once."""
    return manifest.rows.loc[manifest.rows["split"] != "unused", "path"].drop_duplicates().tolist()


def probe_files(manifest: Manifest, log: Path) -> pd.DataFrame:
    """Probe the files of rows in use; see ``filework.work_through`` for its log and the returned table.

    Columns: those of ``video.VideoInfo``, and ``sha256`` of the file's bytes.
    """
    look = partial(_probe, str(manifest.root))
    return work_through(look, manifest.root, used_paths(manifest), log, f"probe {manifest.name}")


def _probe(root: str, path: str) -> Record:
    file = Path(root, path)
    try:
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; check the disk and its permissions") from error
    return {"sha256": digest, **asdict(probe(file))}


def is_still(probes: pd.DataFrame) -> pd.Series:
    """Which files are pictures and not videos."""
    return probes["container"].str.endswith("_pipe") | (probes["container"] == "image2")


def encoding_faults(probes: pd.DataFrame) -> dict[str, str]:
    """path -> what is wrong with the encoding of a readable file."""
    faults = {}
    stills = is_still(probes)
    for found in probes.assign(still=stills).itertuples():
        legal = CONTAINERS.get(Path(found.Index).suffix.lower())
        first = found.container.split(",")[0]
        if legal and first not in legal:
            faults[found.Index] = f"its suffix says {legal[0]}, it holds {first}"
        elif found.still:
            continue
        elif found.frames == 1:
            faults[found.Index] = "a video of one frame"
        elif not PLAUSIBLE_RATES[0] <= found.fps <= PLAUSIBLE_RATES[1]:
            faults[found.Index] = f"{found.fps:g} frames per second"
        elif found.declared_frames and abs(found.declared_frames - found.frames) > 1:
            faults[found.Index] = f"its header says {found.declared_frames} frames, it holds {found.frames}"
    return faults
