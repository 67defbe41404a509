"""VISPR: ``<split>2017.txt`` lists ``annotations/<split>2017/<id>.json``, each with ``image_path`` and ``labels``.

10,000 training, 4,167 validation and 8,000 test images, 68 attributes, of which each of the two tasks has seven.
"""

import re
from pathlib import Path

import pandas as pd

from data_prep.official import malformed, read_json, read_lines
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task

VISPR1 = (
    "a17_color",
    "a4_gender",
    "a9_face_complete",
    "a10_face_partial",
    "a12_semi_nudity",
    "a64_rel_personal",
    "a65_rel_social",
)
# To be confirmed: the paper names only the tattoo; no source at hand names the other six.
VISPR2 = (
    "a6_hair_color",
    "a16_race",
    "a59_sports",
    "a1_age_approx",
    "a2_weight_approx",
    "a73_landmark",
    "a11_tattoo",
)


def read_list(root: Path, split: str) -> list[str]:
    """Paths of the json files of ``split`` (train, val or test), relative to ``root``."""
    path = root / f"{split}2017.txt"
    names = []
    for number, line in read_lines(path):
        if not re.fullmatch(rf"annotations/{split}2017/\w+\.json", line):
            malformed(path, number, line, f"annotations/{split}2017/<id>.json")
        names.append(line)
    return names


def prepare(root: Path) -> Manifest:
    """Manifest of all three splits, tasks ``vispr1`` and ``vispr2``."""
    tasks = {"vispr1": Task("vispr1", "multi", VISPR1), "vispr2": Task("vispr2", "multi", VISPR2)}
    rows = []
    for split in ("train", "val", "test"):
        for name in read_list(root, split):
            content = read_json(root / name)
            image, labels = content.get("image_path"), content.get("labels")
            if not isinstance(image, str) or not isinstance(labels, list):
                raise UserError(f"{root / name} lacks 'image_path' (a text) or 'labels' (a list); replace the file")
            cells = ["|".join(c for c in task.classes if c in labels) for task in tasks.values()]
            rows.append((image, split, *cells))
    return Manifest("vispr", root, tasks, pd.DataFrame(rows, columns=["path", "split", *tasks]))
