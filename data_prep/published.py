"""The published numbers of each dataset, so that an incomplete download is noticed when it is prepared."""

from data_prep.phvu import OFFICIAL_CLASSES, OFFICIAL_ROWS, PAPER_CLIPS
from spact_lib.manifest import Manifest, listed_splits

_UCF101 = {1: (9_537, 3_783), 2: (9_586, 3_734), 3: (9_624, 3_696)}
_HMDB51 = (3_570, 1_530)  # of each split

# Name of a manifest -> rows of the official training list (validation is cut from it) and test list.
ROWS = {
    **{f"{name}{'' if split == 1 else f'_split{split}'}": rows for name in ("ucf101", "vp_ucf101")
       for split, rows in _UCF101.items()},
    **{f"{name}{split}": _HMDB51 for name in ("hmdb51", "vp_hmdb51") for split in ("", "_split2", "_split3")},
}  # fmt: skip
# Nobody has published these; they follow from the official lists: split 1 without the videos of PA-HMDB51.
COMPUTED_ROWS = {"hmdb51_without_pa": (3_284, 1_400)}
VISPR = {"train": 10_000, "val": 4_167, "test": 8_000}
CLASSES = {
    "ucf101": {"action": 101},
    "vp_ucf101": {"action": 101},
    "hmdb51": {"action": 51},
    "hmdb51_without_pa": {"action": 51},
    "vp_hmdb51": {"action": 51},
    "pa_hmdb51": {"action": 51},
    "phvu": OFFICIAL_CLASSES,
}
PA_VIDEOS, PA_ANNOTATED, PA_FRAMES = 515, 52_413, 52_411  # two frames are not annotated for all five attributes


def compare(manifest: Manifest) -> list[str]:
    """A line for each published number of this dataset: it is met, or by how much it is not; none for others."""
    rows, name = manifest.rows, manifest.name
    found = rows["split"].value_counts()
    lines = []
    if expected := ROWS.get(name) or COMPUTED_ROWS.get(name):
        how = "published" if name in ROWS else "computed from the official files"
        parts = {split: int(found.get(split, 0)) for split in ("train", "val", "test")}
        listed = (
            f"the official training list: {parts['train']:,} to train on, {parts['val']:,} for validation; together"
        )
        lines.append(_line(listed, parts["train"] + parts["val"], expected[0], how))
        lines.append(_line("the official test list:", parts["test"], expected[1], how))
    if name == "vispr":
        lines += [_line(f"{split} images:", int(found.get(split, 0)), expected) for split, expected in VISPR.items()]
    if name == "pa_hmdb51":
        lines.append(_line("videos:", rows["path"].nunique(), PA_VIDEOS))
        lines.append(_line("annotated frames:", manifest.facts["annotated frames"], PA_ANNOTATED))
        lines.append(_line("frames with all five attributes:", int((rows["end"] - rows["start"]).sum()), PA_FRAMES))
    if name == "phvu":
        candidates = manifest.facts["rows of HVU's csv files"]
        clips = listed_splits(manifest).replace("val", "train").value_counts()
        for split, n in candidates.items():
            if split in OFFICIAL_ROWS:
                lines.append(_line(f"{split} csv, rows:", n, OFFICIAL_ROWS[split]))
            lines.append(
                _line(f"{split} csv, rows that the rule selects:", int(clips.get(split, 0)), PAPER_CLIPS[split])
            )
    for task, expected in CLASSES.get(name.split("_split")[0], {}).items():
        lines.append(_line(f"classes of {task}:", manifest.tasks[task].n_classes, expected))
    return lines


def _line(what: str, found: int, expected: int, how: str = "published") -> str:
    if found == expected:
        return f"{what} {found:,}, as {how}"
    return f"{what} {found:,}, but {expected:,} are {how}: files are incomplete or of another version; compare them"
