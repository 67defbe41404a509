"""Every file of a dataset decoded once, before hours of training: which cannot be used, and what becomes of their rows.

Leaving rows out makes another dataset: they become "unused" in its table, and so its results have keys of their own.
"""

from functools import partial
from pathlib import Path

import numpy as np

from spact_lib.errors import UserError
from spact_lib.filework import Record, work_through
from spact_lib.manifest import Manifest, refuse_faults, set_aside
from spact_lib.probing import used_paths
from spact_lib.video import iter_frames, probe


def screen(manifest: Manifest, log: Path) -> dict[str, str]:
    """path -> a sentence, for each file in use that is missing, cannot be decoded to its end, or ends before a row.

    Args:
        log: of the files that are sound (``filework.work_through``): the next call looks only at others.
    """
    paths = used_paths(manifest)
    decode = partial(_decode, str(manifest.root))
    done = work_through(decode, manifest.root, paths, log, f"decode {manifest.name}")
    records = done.to_dict("index")
    rows = manifest.rows[manifest.rows["split"] != "unused"]
    last = np.maximum(rows["end"].fillna(0), rows["start"].fillna(0) + 1).groupby(rows["path"]).max()
    faults = {}
    for path in paths:
        record = records.get(path)
        if record is None:
            faults[path] = f"there is no file {manifest.root / path}"
        elif record["error"]:
            faults[path] = str(record["error"])
        elif last[path] > record["frames"]:
            faults[path] = f"{manifest.root / path} has {record['frames']:.0f} frames, a row ends at {last[path]}"
    return faults


def _decode(root: str, path: str) -> Record:
    file = Path(root, path)
    listed, decoded = probe(file).frames, sum(1 for _ in iter_frames(file))
    if decoded != listed:
        raise UserError(f"{file} lists {listed} frames, {decoded} can be decoded; replace it")
    return {"frames": decoded}


def usable(manifest: Manifest, log: Path, policy: str) -> tuple[Manifest, dict[str, str]]:
    """The dataset as it can be used, and what is wrong with the files whose rows are set aside.

    Args:
        policy: "stop" at files that cannot be used, or "skip" them.

    Raises:
        UserError: there are such files and the policy is to stop, or no other ones.
    """
    faults = screen(manifest, log)
    if policy == "stop" or len(faults) == len(used_paths(manifest)):
        refuse_faults(manifest, faults)
    chosen = manifest.rows["path"].isin(list(faults))
    return (set_aside(manifest, chosen) if faults else manifest), faults
