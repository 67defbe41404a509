"""P-HVU: the privacy protocol on HVU. ``HVU_<Train|Val>_V1.0.csv`` and ``HVU_Tags_Categories_V1.0.csv``.

The rule: rows with at least one action, one object and one scene tag. It gives exactly the paper's 16,012 test rows
out of the 31,171 validation rows; classes are all tags of the three categories (739, 1,678, 248). A row is a trimmed
clip ``videos_<train|val>/<youtube_id>_<start>_<end>.mp4``, whole seconds with six digits, as HVU's downloader writes.
"""

from pathlib import Path

import pandas as pd

from data_prep.official import cut_validation, malformed, read_table
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task

CATEGORIES = ("action", "object", "scene")


def prepare(root: Path) -> Manifest:
    """Manifest with the multi-label tasks action, object and scene; validation rows are cut from train by video.

    Without the training csv (it is published apart from the other one) there are only test rows.
    """
    listed: dict[str, str] = {}
    for _, row in read_table(root / "HVU_Tags_Categories_V1.0.csv", ("Tag", "Category")):
        listed[row["Tag"]] = row["Category"]
    tasks = {c: Task(c, "multi", tuple(t for t, category in listed.items() if category == c)) for c in CATEGORIES}
    rows = []
    for split, part in (("train", "Train"), ("test", "Val")):
        path = root / f"HVU_{part}_V1.0.csv"
        if split == "train" and not path.exists():
            continue
        for line, row in read_table(path, ("Tags", "youtube_id", "time_start", "time_end")):
            tags = row["Tags"].split("|")
            for tag in tags:
                if tag not in listed:
                    raise UserError(f"{path}, line {line}: tag {tag!r} is in no category; replace one of the csv files")
            try:
                times = "_".join(f"{int(float(row[c])):06d}" for c in ("time_start", "time_end"))
            except ValueError:
                malformed(path, line, f"{row['time_start']},{row['time_end']}", "<seconds>,<seconds>")
            cells = ["|".join(t for t in tags if listed[t] == c) for c in CATEGORIES]
            if all(cells):
                clip = f"videos_{part.lower()}/{row['youtube_id']}_{times}.mp4"
                rows.append((clip, split, row["youtube_id"], *cells))
    table = pd.DataFrame(rows, columns=["path", "split", "group", *CATEGORIES])
    return Manifest("phvu", root, tasks, cut_validation(table))
