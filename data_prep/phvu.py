"""P-HVU: the privacy protocol on HVU. ``HVU_<Train|Val>_V1.0.csv`` and ``HVU_Tags_Categories_V1.0.csv``.

The rule: rows with at least one action, one object and one scene tag. It gives exactly the paper's 16,012 test rows
out of the 31,171 validation rows; classes are all tags of the three categories (739, 1,678, 248). The paper has 245,212
training clips; nobody has published their list, and another number gives a warning.

A row is a trimmed clip ``videos_<train|val>/<youtube_id>_<start>_<end>.mp4``, in seconds without decimals, six digits,
or ``..._.mp4``, as HVU's downloader calls a clip once it is trimmed (it writes the whole film under the name without
the last underscore first: a download that was stopped leaves such films behind). Call the downloader's output folder
``videos_train`` or ``videos_val``.

Beside the manifest: ``selected.csv``, the list of all selected clips for others to use; ``missing.csv``, those of them
that are not on disk, because films vanish from YouTube; ``counts.csv``, how many there are. Missing clips are of the
split "unused", so that training never asks for them, and a column ``missing_from`` keeps the split they were set aside
from; validation rows are cut before, so that what is missing moves no other clip. With no clip on disk at all, every
clip keeps its split and none is listed as missing.
"""

import logging
import os
import re
from pathlib import Path

import pandas as pd

from data_prep.official import cut_validation, malformed, read_table
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task

log = logging.getLogger(__name__)

CATEGORIES = ("action", "object", "scene")
OTHERS = ("attribute", "concept", "event")  # HVU's further categories
# Of the official files (the training csv was not at hand), and the clips that the paper reports.
OFFICIAL_CLASSES = {"action": 739, "object": 1678, "scene": 248}
OFFICIAL_ROWS = {"test": 31_171}
PAPER_CLIPS = {"train": 245_212, "test": 16_012}


def prepare(root: Path) -> Manifest:
    """Manifest with the multi-label tasks action, object and scene; validation rows are cut from train by video.

    Without the training csv (it is published apart from the other one) there are only test rows.
    """
    listed: dict[str, str] = {}
    path = root / "HVU_Tags_Categories_V1.0.csv"
    for line, row in read_table(path, ("Tag", "Category")):
        if not row["Tag"] or row["Tag"] in listed:
            raise UserError(f"{path}, line {line}: tag {row['Tag']!r} is empty or there twice; replace the file")
        if not row["Category"]:
            raise UserError(f"{path}, line {line}: tag {row['Tag']!r} has no category; replace the file")
        if row["Category"] not in (*CATEGORIES, *OTHERS):
            what = f"category {row['Category']!r} of tag {row['Tag']!r}"
            legal = ", ".join(sorted((*CATEGORIES, *OTHERS)))
            raise UserError(f"{path}, line {line}: {what} is none of HVU's ({legal}); correct it")
        listed[row["Tag"]] = row["Category"]
    for category in CATEGORIES:
        if category not in listed.values():
            raise UserError(f"{path}, line 1: no tag below it is of category {category!r}; replace the file")
    tasks = {c: Task(c, "multi", tuple(t for t, category in listed.items() if category == c)) for c in CATEGORIES}
    rows, candidates = [], {}
    for split, part in (("train", "Train"), ("test", "Val")):
        path = root / f"HVU_{part}_V1.0.csv"
        if split == "train" and not path.exists():
            log.warning("phvu: there is no %s; prepared without training rows", path)
            continue
        before = len(rows)
        candidates[split] = _read_clips(path, split, f"videos_{part.lower()}", listed, rows)
        found = f"{len(rows) - before:,}", f"{candidates[split]:,}"
        log.info("phvu: %s of %s rows of %s have all three kinds of tags", *found, path)
    table = cut_validation(
        pd.DataFrame(rows, columns=["path", "split", "group", *CATEGORIES, "time_start", "time_end"])
    )
    _compare_with_paper(table, {c: task.n_classes for c, task in tasks.items()}, candidates)
    return Manifest("phvu", root, tasks, _mark_missing(table, root), {"rows of HVU's csv files": candidates})


def _read_clips(path: Path, split: str, folder: str, listed: dict[str, str], rows: list[tuple]) -> int:
    """Append the selected rows of a csv file to ``rows``; return how many it has."""
    on_disk = _files(path.parent / folder)
    seen: set[tuple[str, float, float]] = set()
    for line, row in read_table(path, ("Tags", "youtube_id", "time_start", "time_end")):
        tags = row["Tags"].split("|")
        for tag in tags:
            if tag not in listed:
                raise UserError(f"{path}, line {line}: tag {tag!r} is in no category; replace one of the csv files")
        times = row["time_start"], row["time_end"]
        if not all(re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", time) for time in times):
            malformed(path, line, ",".join(times), "<seconds>,<seconds>")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", row["youtube_id"]):
            malformed(path, line, row["youtube_id"], "<YouTube's eleven letters>")
        clip = row["youtube_id"], *map(float, times)
        named = f"{path}, line {line}: clip {','.join((row['youtube_id'], *times))}"
        if clip[2] < clip[1]:
            raise UserError(f"{named} ends before it starts; correct it")
        if clip in seen:
            raise UserError(f"{named} is listed before; replace the file")
        seen.add(clip)
        cells = ["|".join(tag for tag in tags if listed[tag] == category) for category in CATEGORIES]
        if all(cells):
            file = "_".join((row["youtube_id"], *(f"{int(float(time)):06d}" for time in times)))
            file += "_.mp4" if f"{file}_.mp4" in on_disk and f"{file}.mp4" not in on_disk else ".mp4"
            rows.append((f"{folder}/{file}", split, row["youtube_id"], *cells, *times))
    if not seen:
        raise UserError(f"{path}, line 1: there is no clip below it; replace the file")
    return len(seen)


def _files(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _compare_with_paper(table: pd.DataFrame, classes: dict[str, int], candidates: dict[str, int]) -> None:
    """Warn of numbers that are not the published ones, unless none is: then these are not HVU's files."""
    met = [classes[c] == n for c, n in OFFICIAL_CLASSES.items()]
    if not any(met) and candidates["test"] != OFFICIAL_ROWS["test"]:
        return
    for category, n in OFFICIAL_CLASSES.items():
        if classes[category] != n:
            what = f"{classes[category]:,} classes of {category}, but HVU's tag file has {n:,}"
            log.warning("phvu: %s; it is of another version, or rows are missing", what)
    found = table["split"].replace("val", "train").value_counts()
    for split, expected in PAPER_CLIPS.items():
        if split in found and found[split] != expected:
            log.warning(
                "phvu: %s %s clips, %+d against the paper's %s. Likely reasons: another version of the csv file, rows "
                "left out of it, or clips that the authors could not download; nobody has published their list",
                *(f"{found[split]:,}", split, found[split] - expected, f"{expected:,}"),
            )


def _mark_missing(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    on_disk = {f"{folder}/{file}" for folder in ("videos_train", "videos_val") for file in _files(root / folder)}
    missing = ~table["path"].isin(on_disk)
    if missing.all() or not missing.any():
        return table
    log.warning("phvu: %s of %s clips are not on disk; missing.csv lists them", f"{missing.sum():,}", f"{len(table):,}")
    return table.assign(split=table["split"].where(~missing, "unused"), missing_from=table["split"].where(missing, ""))


def beside(manifest: Manifest) -> dict[str, pd.DataFrame]:
    """The files written beside the manifest, by name.

    ``selected.csv``: split (train or test, as the paper has it), youtube_id, time_start, time_end (seconds, as in HVU's
    csv), path; ``missing.csv``: the same columns; ``counts.csv``: a row per split with its clips, films, missing clips,
    and for each category the classes that have a selected clip, and those that have one which is not missing.
    """
    rows = manifest.rows
    selected = pd.DataFrame(
        {
            "split": ["train" if path.startswith("videos_train/") else "test" for path in rows["path"]],
            "youtube_id": rows["group"],
            "time_start": rows["time_start"],
            "time_end": rows["time_end"],
            "path": rows["path"],
        }
    )
    missing = rows["split"] == "unused"
    counts = []
    for split, part in selected.groupby("split"):
        parts = {"selected": rows.loc[part.index], "left": rows.loc[part.index][~missing[part.index]]}
        films = part["youtube_id"].nunique()
        counts.append({"split": split, "clips": len(part), "films": films, "missing": int(missing[part.index].sum())})
        counts[-1] |= {
            f"{category}_classes_{which}": len(set("|".join(chosen[category]).split("|")) - {""})
            for category in CATEGORIES
            for which, chosen in parts.items()
        }
    return {"selected.csv": selected, "missing.csv": selected[missing], "counts.csv": pd.DataFrame(counts)}
