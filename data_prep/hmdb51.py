"""HMDB51: ``<class>/<video>.avi`` and ``testTrainMulti_7030_splits/<class>_test_split<1|2|3>.txt``.

A line of a split file is a video and its code: 1 train, 2 test, 0 unused. Split 1 has 3,570 training, 1,530 test and
1,666 unused videos of 51 classes. Validation videos are cut from the training ones by source, for each class.
"""

import re
from pathlib import Path

import pandas as pd

from data_prep.official import cut_validation, malformed, read_lines
from spact_lib.errors import UserError, unknown_name
from spact_lib.manifest import Manifest, Task

_CODES = {"0": "unused", "1": "train", "2": "test"}


def prepare(root: Path, *, split: int = 1, lists: Path | None = None) -> Manifest:
    """Manifest of official split ``split`` (1, 2 or 3); ``lists``: where the split files lie if not in ``root``."""
    if split not in (1, 2, 3):
        raise unknown_name("split of HMDB51", str(split), (1, 2, 3))
    lists = lists or root / "testTrainMulti_7030_splits"
    ending = f"_test_split{split}.txt"
    rows, classes = [], []
    for path in sorted(lists.glob(f"*{ending}")):
        name = path.name.removesuffix(ending)
        classes.append(name)
        for number, line in read_lines(path):
            video, _, code = line.rpartition(" ")
            if not video.endswith(".avi") or code not in _CODES:
                malformed(path, number, line, "<video>.avi <0, 1 or 2>")
            # <source>_<class>_<six more marks>: clips of one source video must not be in both train and val.
            source = re.split(rf"_{name}_[ufhlt]_", video)[0]
            rows.append((f"{name}/{video}", _CODES[code], source, name))
    if not rows:
        raise UserError(f"there is no file *{ending} in {lists}; unpack the official split files there")
    table = pd.DataFrame(rows, columns=["path", "split", "group", "action"])
    return Manifest(
        "hmdb51", root, {"action": Task("action", "single", tuple(classes))}, cut_validation(table, "action")
    )
