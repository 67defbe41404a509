"""VP-UCF101 and VP-HMDB51 (STPrivacy, ICCV 2023): five privacy bits for each video of UCF101 and of HMDB51.

``vp_ucf101.csv`` and ``vp_hmdb51.csv`` head ``video,p0,p1,p2,p3,p4``: ``<class>/<video>`` (whatever its ending) and
five times 0 or 1, for all 13,320 and 6,766 videos. Actions, splits and files are those of UCF101 and HMDB51, so that
one dataset serves a whole protocol. STPrivacy's own split is not published; the official lists are used.
"""

from pathlib import Path

from data_prep import hmdb51, ucf101
from data_prep.archives import Absent, absent
from data_prep.official import malformed, read_table
from data_prep.pa_hmdb51 import ATTRIBUTES
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task

_BITS = ("p0", "p1", "p2", "p3", "p4")  # in the order of ATTRIBUTES: inferred from their frequencies, not documented


def prepare_ucf101(
    root: Path, *, split: int = 1, lists: Path | None = None, annotations: Path | None = None
) -> Manifest:
    """UCF101 with a second task ``vp_attributes`` (multi); ``annotations``: folder of the csv if not ``root``."""
    return _with_bits(ucf101.prepare(root, split=split, lists=lists), (annotations or root) / "vp_ucf101.csv")


def prepare_hmdb51(
    root: Path, *, split: int = 1, lists: Path | None = None, annotations: Path | None = None
) -> Manifest:
    """HMDB51 with a second task ``vp_attributes`` (multi); ``annotations``: folder of the csv if not ``root``."""
    return _with_bits(hmdb51.prepare(root, split=split, lists=lists), (annotations or root) / "vp_hmdb51.csv")


def _with_bits(manifest: Manifest, path: Path) -> Manifest:
    videos = ["/".join(p.rpartition(".")[0].split("/")[-2:]) for p in manifest.rows["path"]]
    unlabelled, cells = set(videos), {}
    if not path.exists():
        raise Absent(f"{absent(path, path.stem)}, or name its folder: --annotations DIR")
    for number, row in read_table(path, ("video", *_BITS)):
        video, bits = row["video"].rpartition(".")[0], [row[bit] for bit in _BITS]
        if not set(bits) <= {"0", "1"}:
            malformed(path, number, ",".join(row.values()), "<class>/<video>,<0 or 1>,<0 or 1>,...")
        if video not in unlabelled:
            raise UserError(f"{path}, line {number}: {row['video']!r} is in no list, or here twice; replace the file")
        unlabelled.remove(video)
        cells[video] = "|".join(a for a, bit in zip(ATTRIBUTES, bits, strict=True) if bit == "1")
    if unlabelled:
        raise UserError(f"{path} lacks {len(unlabelled)} videos of the lists, such as {min(unlabelled)}; replace it")
    rows = manifest.rows.assign(vp_attributes=[cells[video] for video in videos])
    tasks = manifest.tasks | {"vp_attributes": Task("vp_attributes", "multi", ATTRIBUTES)}
    return Manifest(f"vp_{manifest.name}", manifest.root, tasks, rows)
