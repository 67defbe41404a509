"""UCF101: ``UCF-101/<Class>/v_<Class>_gXX_cYY.avi`` and the lists in ``ucfTrainTestlist``.

Split 1 has 9,537 training and 3,783 test videos of 101 classes. The lists know no validation videos: they are cut
from the training list by group (gXX, clips of one source video), for each class.
"""

import re
from pathlib import Path

import pandas as pd

from data_prep.official import cut_validation, malformed, read_lines
from spact_lib.errors import unknown_name
from spact_lib.manifest import Manifest, Task

_VIDEO = re.compile(r"(?P<name>\w+)/v_\w+_(?P<group>g\d+)_c\d+\.avi")


def prepare(root: Path, *, split: int = 1, lists: Path | None = None) -> Manifest:
    """Manifest of official split ``split`` (1, 2 or 3); ``lists``: where the lists lie if not in ``root``."""
    if split not in (1, 2, 3):
        raise unknown_name("split of UCF101", str(split), (1, 2, 3))
    lists = lists or root / "ucfTrainTestlist"
    classes = {}
    for number, line in read_lines(lists / "classInd.txt"):
        index, _, name = line.partition(" ")
        if not index.isdigit() or not name:
            malformed(lists / "classInd.txt", number, line, "1 ApplyEyeMakeup")
        classes[name] = index
    rows = []
    for part in ("train", "test"):
        path = lists / f"{part}list0{split}.txt"
        for number, line in read_lines(path):
            video, _, index = line.partition(" ")
            match = _VIDEO.fullmatch(video)
            # The test lists give no class number.
            if not match or match["name"] not in classes or index not in ("", classes[match["name"]]):
                malformed(path, number, line, "<Class>/v_<Class>_gXX_cYY.avi <number in classInd.txt>")
            rows.append((f"UCF-101/{video}", part, match["group"], match["name"]))
    table = pd.DataFrame(rows, columns=["path", "split", "group", "action"])
    return Manifest(
        "ucf101", root, {"action": Task("action", "single", tuple(classes))}, cut_validation(table, "action")
    )
