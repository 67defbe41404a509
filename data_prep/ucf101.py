"""UCF101: ``UCF-101/<Class>/v_<Class>_gXX_cYY.avi`` and the lists in ``ucfTrainTestlist``.

Official archives: ``UCF101.rar`` (13,320 videos) and ``UCF101TrainTestSplits-RecognitionTask.zip`` (three splits; the
lists may also lie directly in the root). Training and test videos of 101 classes: 9,537 and 3,783 in split 1, 9,586
and 3,734 in split 2, 9,624 and 3,696 in split 3. The lists know no validation videos: they are cut from the training
list by group (gXX, clips of one source video), for each class.
"""

import re
from pathlib import Path

import pandas as pd

from data_prep.archives import absent, annotation_folder, refuse_packed
from data_prep.official import check_class_folders, cut_validation, malformed, read_lines
from spact_lib.errors import UserError, unknown_name
from spact_lib.manifest import Manifest, Task

# The official lists spell one class in two ways: HandstandPushups/v_HandStandPushups_g01_c01.avi.
_VIDEO = re.compile(r"(?P<name>\w+)/v_(?i:(?P=name))_(?P<group>g\d+)_c\d+\.avi")


def prepare(root: Path, *, split: int = 1, lists: Path | None = None) -> Manifest:
    """Manifest of official split ``split`` (1, 2 or 3); ``lists``: where the lists lie if not in ``root``."""
    if split not in (1, 2, 3):
        raise unknown_name("split of UCF101", str(split), (1, 2, 3))
    lists = lists or annotation_folder(
        root, "ucfTrainTestlist", "classInd.txt", "ucf101traintestsplits-recognitiontask", "ucftraintestlist"
    )
    if not (lists / "classInd.txt").exists():
        raise absent(lists / "classInd.txt")
    refuse_packed(root / "UCF-101", "ucf101", "ucf-101")
    classes, lines = {}, {}
    for number, line in read_lines(lists / "classInd.txt"):
        index, _, name = line.partition(" ")
        if not index.isdigit() or not name or name in classes or index in classes.values():
            malformed(lists / "classInd.txt", number, line, "1 ApplyEyeMakeup")
        classes[name], lines[name] = index, number
    rows: dict[str, tuple] = {}
    for part in ("train", "test"):
        path = lists / f"{part}list0{split}.txt"
        for number, line in read_lines(path):
            video, _, index = line.partition(" ")
            match = _VIDEO.fullmatch(video)
            if match and match["name"] not in classes:
                where = f"{path}, line {number}: class {match['name']!r}"
                raise UserError(f"{where} is not in {lists / 'classInd.txt'}; replace the lists")
            # The test lists give no class number.
            if not match or index != classes[match["name"]] and (part, index) != ("test", ""):
                malformed(path, number, line, "<Class>/v_<Class>_gXX_cYY.avi <number in classInd.txt>")
            if video in rows:
                raise UserError(f"{path}, line {number}: {video} is listed before; replace the lists")
            rows[video] = (f"UCF-101/{video}", part, match["group"], match["name"])
    if not any(part == "test" for _, part, _, _ in rows.values()):
        raise UserError(f"{lists / f'testlist0{split}.txt'} lists no test video; replace the lists")
    trained = {name for _, part, _, name in rows.values() if part == "train"}
    for name, line in lines.items():
        if name not in trained:
            where = f"{lists / 'classInd.txt'}, line {line}: class {name!r}"
            raise UserError(f"{where} has no video in the training list; replace the lists")
    check_class_folders(root / "UCF-101", classes, lists / "classInd.txt")
    table = pd.DataFrame(rows.values(), columns=["path", "split", "group", "action"])
    name = "ucf101" if split == 1 else f"ucf101_split{split}"
    tasks = {"action": Task("action", "single", tuple(classes))}
    return Manifest(name, root, tasks, cut_validation(table, "action", ("action", "group")))
