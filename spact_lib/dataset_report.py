"""What is in a dataset: rows, labels and their chance lines, files with faults, duplicates, clip lengths.

``write_report`` works for any manifest, one's own CSV included. It leaves ``report.json`` (all numbers),
``problems.csv`` (every file with a fault, and which) and ``probes.jsonl`` (what each file holds) beside the manifest.
Without any media file the report is of the annotations alone, and says so.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spact_lib.chance import chance_average_precision
from spact_lib.files import atomic_path, load_json, write_json
from spact_lib.manifest import SPLITS, Manifest, Task, listed_splits, read_manifest
from spact_lib.probing import encoding_faults, is_still, probe_files, used_paths

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent
TOGETHER = 12  # classes whose co-occurrence is reported: the most frequent ones
FIRST_FEW = 5  # names in a text, all of them in problems.csv
PARTS = {"reading": "reading", "labels": "labels", "probing": "files"}  # of the seconds -> as the text calls them


def beside(dataset: str | Path, name: str) -> Path:
    """Where a file about a dataset lies: in its folder, or ``my.NAME`` beside a ``my.csv``."""
    path = Path(dataset)
    if path.is_dir():
        return path / name
    return path.with_name(name if path.name == "manifest.csv" else f"{path.stem}.{name}")


def write_report(
    dataset: str | Path, tell: Callable[[str], None] = lambda text: None, read: tuple[Manifest, float] | None = None
) -> dict:
    """Describe a prepared dataset (a folder with manifest.csv, or a CSV) and probe its files.

    Args:
        tell: gets the text of each part as soon as it is known; probing many files takes long, and continues in the
            next call when it is stopped.
        read: the manifest, where it has just been made from official files, and the seconds that reading those took.

    Returns:
        The content of report.json.

    Raises:
        UserError: the manifest cannot be read.
    """
    began = time.perf_counter()
    manifest, reading = read or (read_manifest(dataset), time.perf_counter() - began)
    began = time.perf_counter()
    report = {"manifest": str(Path(dataset).resolve())} | describe(manifest)
    report["seconds"] = {"reading": round(reading, 1), "labels": round(time.perf_counter() - began, 1)}
    tell(labels_text(report))
    began = time.perf_counter()
    probes = probe_files(manifest, _probe_log(dataset, manifest))
    report["media"], problems = examine_media(manifest, probes)
    report["seconds"]["probing"] = round(time.perf_counter() - began, 1)
    with atomic_path(beside(dataset, "problems.csv")) as temporary:
        problems.to_csv(temporary, index=False, lineterminator="\n")
    path = write_json(beside(dataset, "report.json"), report)
    tell(media_text(report, beside(dataset, "problems.csv")))
    tell(f"  all numbers: {path}")
    return report


def _probe_log(dataset: str | Path, manifest: Manifest) -> Path:
    """The dataset's own log or, while it has none, that of a dataset beside it with the same root: the same files."""
    own = beside(dataset, "probes.jsonl")
    if own.exists() or not Path(dataset).is_dir():
        return own
    for log in sorted(own.parent.parent.glob("*/probes.jsonl")):
        try:
            described = load_json(log.with_name("tasks.json"))
        except (OSError, ValueError):  # a fault of the other dataset, none of this one
            continue
        stored = described.get("root") if isinstance(described, dict) else None
        if isinstance(stored, str) and (log.parent / stored).resolve() == manifest.root.resolve():
            return log
    return own


def describe(manifest: Manifest) -> dict:
    """Rows, files, labels and chance lines: everything that needs no media file.

    Prevalences are over rows; where the rows of a split are frame ranges, several of a file, ``frames`` has them over
    frames. Where rows are set aside because their files are missing, ``selected`` has them over all that are listed.
    """
    rows, parts = manifest.rows, {}
    lengths = (rows["end"] - rows["start"].fillna(0)).astype("Float64").to_numpy(float, na_value=np.nan)
    for split in SPLITS:
        chosen = (rows["split"] == split).to_numpy()
        if chosen.any():
            ranges = np.isfinite(lengths[chosen]).all() and rows.loc[chosen, "path"].duplicated().any()
            parts[split] = (chosen, lengths[chosen] if ranges else None)
    listed = listed_splits(manifest)
    set_aside = (listed != rows["split"]).to_numpy()
    selected = {split: (listed == split).to_numpy() for split in SPLITS[:-1] if set_aside.any()}
    selected = {split: chosen for split, chosen in selected.items() if chosen.any()}
    return {
        "dataset": manifest.name,
        "root": str(manifest.root.resolve()),
        "fingerprint": manifest.fingerprint,
        "rows": {split: int(chosen.sum()) for split, (chosen, _) in parts.items()},
        "files": {split: int(rows.loc[chosen, "path"].nunique()) for split, (chosen, _) in parts.items()},
        "frames": {split: int(weights.sum()) for split, (_, weights) in parts.items() if weights is not None},
        "selected": {split: int(chosen.sum()) for split, chosen in selected.items()},
        "set_aside": {split: int((chosen & set_aside).sum()) for split, chosen in selected.items()},
        "facts": manifest.facts,
        "tasks": {name: _describe_task(manifest, task, parts, selected) for name, task in manifest.tasks.items()},
    }


def _describe_task(manifest: Manifest, task: Task, parts: dict, selected: dict) -> dict:
    cells, found = manifest.rows[task.name].to_numpy(), {}
    for split, (chosen, weights) in parts.items():
        if split == "unused":
            continue
        found[split] = _chance(task, _count(task, cells[chosen]), int(chosen.sum()))
        if weights is not None:
            found[split]["frames"] = _chance(task, _count(task, cells[chosen], weights), int(weights.sum()))
    described = {"kind": task.kind, "n_classes": task.n_classes, "splits": found}
    if selected:
        described["selected"] = {
            split: _chance(task, _count(task, cells[chosen]), int(chosen.sum())) for split, chosen in selected.items()
        }
    if task.kind == "multi":
        used = (manifest.rows["split"] != "unused").to_numpy()
        described["together"] = _together(task, cells[used])
    return described


def _count(task: Task, cells: Iterable[str], weights: Sequence[float] | None = None) -> dict[str, int]:
    """Class -> rows (or frames) that have it; label by label, because a multi-hot table of HVU takes 600 MB."""
    counts: Counter[str] = Counter()
    for cell, weight in zip(cells, weights if weights is not None else [1] * len(cells), strict=True):
        for label in set(cell.split("|")) if task.kind == "multi" else [cell]:  # a tag may stand twice in a row
            counts[label] += int(weight)
    return {name: counts[name] for name in task.classes}


def _chance(task: Task, positives: dict[str, int], n: int) -> dict:
    """The counts of the n items of a split, with what scores without looking: see ``metrics``."""
    present = [m for m in positives.values() if m]
    chance = {}
    if present and task.kind == "single":
        chance = {"top1": 100 * max(present) / n}
    elif present:
        chance = {
            "cmap": 100 * float(np.mean([chance_average_precision(m, n) for m in present])),
            "f1": float(np.mean([2 * m / (n + m) for m in present])),
        }
    return {"items": n, "classes_present": len(present), "chance": chance, "positives": positives}


def _together(task: Task, cells: np.ndarray) -> dict:
    """How often two of the most frequent classes stand in the same row."""
    counts = _count(task, cells)
    frequent = sorted(counts, key=lambda name: -counts[name])[:TOGETHER]
    classes = [name for name in task.classes if name in frequent]
    hot = np.array([[name in labels for name in classes] for labels in (set(cell.split("|")) for cell in cells)])
    hot = hot.astype(np.float32)
    return {"classes": classes, "rows": len(cells), "counts": (hot.T @ hot).astype(int).tolist()}


def examine_media(manifest: Manifest, probes: pd.DataFrame) -> tuple[dict, pd.DataFrame]:
    """What the files show, and a table of their problems (path, problem, detail).

    Args:
        probes: of ``probing.probe_files``.
    """
    there, listed = set(probes.index), listed_splits(manifest)
    splits = {split: manifest.rows.loc[listed == split, "path"].unique().tolist() for split in SPLITS[:-1]}
    paths = manifest.rows.loc[listed != "unused", "path"].unique().tolist()
    set_aside = set(paths) - set(used_paths(manifest))
    problems = [
        (path, "missing", "its rows are set aside; prepare again once it is there" if path in set_aside else "")
        for path in (paths if there else ())
        if path not in there and not (path in set_aside and (manifest.root / path).is_file())
    ]
    problems += [
        (path, "unreadable", "its rows are set aside; prepare again once it is replaced")
        for path in paths
        if path in set_aside and (manifest.root / path).is_file()
    ]
    failed = probes[probes["error"] != ""]
    problems += [(path, "unreadable", error) for path, error in failed["error"].items()]
    sound = probes[probes["error"] == ""].convert_dtypes()  # a column with gaps held floats
    media = {"files": len(paths), "present": len(there), "newly_probed": probes.attrs["new"]}
    media["splits"] = {
        split: {"selected": len(files), "on disk": (found := len(there & set(files))), "missing": len(files) - found}
        for split, files in splits.items()
        if files
    }
    if len(sound):
        problems += [(path, "wrongly encoded", fault) for path, fault in encoding_faults(sound).items()]
        problems += _ranges_beyond_the_end(manifest, sound)
        problems += _same_content(manifest, sound)
        stills = is_still(sound)
        media |= {"videos": _measures(sound[~stills]), "stills": _measures(sound[stills])}
    problems += _same_path(manifest)
    table = pd.DataFrame(problems, columns=["path", "problem", "detail"])
    media["problems"] = {
        kind: {"files": int(part["path"].nunique()), "first": part["path"].unique()[:FIRST_FEW].tolist()}
        for kind, part in table.groupby("problem", sort=False)
    }
    return media, table


def _ranges_beyond_the_end(manifest: Manifest, probes: pd.DataFrame) -> list[tuple[str, str, str]]:
    rows = manifest.rows[manifest.rows["split"] != "unused"]
    frames = rows["path"].map(probes["frames"])
    last = rows["end"].fillna(rows["start"] + 1)  # a range without an end has its first frame at least
    beyond = (last > frames).fillna(False).to_numpy(bool)
    worst = pd.DataFrame({"path": rows["path"], "last": last, "frames": frames})[beyond].groupby("path").max()
    return [
        (row.Index, "shorter than its rows", f"a row ends at frame {row.last}, the file has {row.frames:.0f}")
        for row in worst.itertuples()
    ]


def _same_path(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Files that are listed in more than one split."""
    splits = _splits_of(manifest)
    return [(path, "in several splits", "|".join(s)) for path, s in splits.items() if len(s) > 1]


def _same_content(manifest: Manifest, probes: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Files whose bytes are those of another file, between splits and within one."""
    splits, problems = _splits_of(manifest), []
    doubled = probes[probes["sha256"].duplicated(keep=False)]
    for _, same in doubled.groupby("sha256", sort=False):
        leak = len({split for path in same.index for split in splits[path]}) > 1
        problem = "same content in several splits" if leak else "same content within a split"
        for path, other in zip(same.index, [*same.index[1:], same.index[0]], strict=True):
            problems.append((path, problem, f"the bytes of {other} ({'|'.join(splits[other])})"))
    return problems


def _splits_of(manifest: Manifest) -> dict[str, list[str]]:
    pairs = manifest.rows.loc[manifest.rows["split"] != "unused", ["path", "split"]].drop_duplicates()
    splits: dict[str, list[str]] = {}
    for path, split in pairs.itertuples(index=False):
        splits.setdefault(path, []).append(split)
    return splits


def _measures(files: pd.DataFrame) -> dict:
    """Sizes, and for videos lengths, rates and how far apart their keyframes are."""
    if files.empty:
        return {"files": 0}
    measures = {"files": len(files), "bytes": int(files["size"].sum()), "codecs": _frequent(files["codec"])}
    measures["sizes"] = _frequent(files["width"].astype(str) + "x" + files["height"].astype(str))
    if not is_still(files).any():
        measures["fps"] = _frequent(files["fps"].round(2).astype(str))
        measures["frames"] = _quantiles(files["frames"])
        measures["seconds"] = _quantiles(files["duration_s"])
        measures["frames_per_keyframe"] = _quantiles(files["frames"] / files["keyframes"])
    return measures


def _frequent(values: pd.Series, most: int = 5) -> dict[str, int]:
    """The most frequent values with their counts, the others summed up."""
    counts = values.value_counts()
    found = {str(value): int(n) for value, n in counts.head(most).items()}
    return found | ({"other": int(counts.iloc[most:].sum())} if len(counts) > most else {})


def _quantiles(values: pd.Series) -> dict[str, float]:
    return {str(q): round(float(v), 2) for q, v in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)}


def media_table(reports: Mapping[str, dict]) -> pd.DataFrame:
    """What the videos and the stills of each dataset are: a row each, for those that have any."""
    found = {}
    for name, report in reports.items():
        for kind in ("videos", "stills"):
            measures = report["media"].get(kind, {"files": 0})
            if measures["files"]:
                found[name, kind] = {
                    "files": measures["files"],
                    "MB": round(measures["bytes"] / 1e6, 1),
                    "codec": ", ".join(measures["codecs"]),
                    "size": ", ".join(measures["sizes"]),
                    "frames/s": ", ".join(measures.get("fps", [])),
                    "frames per keyframe": measures.get("frames_per_keyframe", {}).get("50", ""),
                }
    return pd.DataFrame.from_dict(found, orient="index")


def labels_text(report: dict) -> str:
    """Rows, classes, chance lines and what the dataset's reader has to tell, a line each."""
    rows = _listed(report["rows"])
    tasks = ", ".join(f"{name} ({task['kind']}, {task['n_classes']})" for name, task in report["tasks"].items())
    lines = [f"  {report['dataset']}: {rows}; tasks: {tasks}"]
    if report["files"] != report["rows"]:
        lines.append(f"    files: {_listed(report['files'])}")
    if report["frames"]:
        lines.append(f"    frames in ranges: {_listed(report['frames'])}")
    if report["selected"]:
        lines.append(
            f"    selected: {_listed(report['selected'])}; not on disk, and set aside as unused: "
            f"{_listed(report['set_aside'])}"
        )
    lines += [f"    {what}: {_fact_text(fact)}" for what, fact in report["facts"].items()]
    rows = "rows on disk" if report["selected"] else "rows"
    for name, task in report["tasks"].items():
        lines.append(f"    {name}: {_task_text(task['splits'], rows)}")
        if "selected" in task:
            lines.append(f"    {name}, over all selected: {_task_text(task['selected'], 'selected rows')}")
        over_frames = {split: found["frames"] for split, found in task["splits"].items() if "frames" in found}
        if over_frames:
            lines.append(f"    {name}, over frames: {_task_text(over_frames, 'frames')}")
    return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {split}" for split, n in counts.items())


def _fact_text(fact: object) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{name} {_fact_text(value)}" for name, value in fact.items())
    return f"{fact:,}" if isinstance(fact, int) else str(fact)


def _task_text(splits: dict[str, dict], items: str) -> str:
    """Chance of every split over its ``items``, and how frequent the classes are in the last one: test, if there is."""
    labelled = {split: found for split, found in splits.items() if found["chance"]}
    if not labelled:
        return "no labelled row"
    last, found = list(labelled.items())[-1]
    metrics = {"top1": ("top-1", "{:.1f}", " %"), "cmap": ("cMAP", "{:.1f}", " %"), "f1": ("F1", "{:.3f}", "")}
    scores = []
    for metric in found["chance"]:
        text, form, unit = metrics[metric]
        values = " / ".join(form.format(each["chance"][metric]) for each in labelled.values())
        scores.append(f"{text} {values}{unit}")
    ranked = sorted(((m, name) for name, m in found["positives"].items() if m), key=lambda item: -item[0])
    shares = [f"{name} {100 * m / found['items']:.1f} %" for m, name in ranked]
    absent = len(found["positives"]) - len(ranked)
    shown = ", ".join(shares) if len(shares) <= 8 else f"{len(shares)} classes from {shares[0]} to {shares[-1]}"
    without = f"; {absent} of {len(found['positives'])} do not occur" if absent else ""
    over = " / ".join(f"{each['items']:,}" for each in labelled.values())
    return f"chance {', '.join(scores)} ({' / '.join(labelled)}, over {over} {items}); in {last}: {shown}{without}"


def media_text(report: dict, problems: Path) -> str:
    """Files, their measures and their problems, a line each; ``problems``: the table that lists them all."""
    media, seconds = report["media"], report["seconds"]
    if not media["present"]:
        lines = [
            f"    media: none of the {media['files']:,} files is under {report['root']}; this report is of the "
            f"annotations alone. Put the files there, then: spact report {report['manifest']}"
        ]
    else:
        lines = [f"    media: {media['present']:,} of {media['files']:,} files under {report['root']}"]
    if media["present"] < media["files"]:
        lines += [f"    {split} files: {_fact_text(counts)}" for split, counts in media["splits"].items()]
    for kind in ("videos", "stills"):
        if measures := media.get(kind, {"files": 0}):
            lines += _measures_text(kind, measures) if measures["files"] else []
    for kind, found in media["problems"].items():
        share = f"{100 * found['files'] / media['files']:.1f} %"
        more = ", ..." if found["files"] > len(found["first"]) else ""
        lines.append(f"    {kind}: {found['files']:,} ({share}): {', '.join(found['first'])}{more}")
    if media["problems"]:
        lines.append(f"    all of them: {problems}")
    elif media["present"]:
        lines.append("    no file is missing, unreadable, wrongly encoded or the same as another (sha256 of its bytes)")
    took = ", ".join(f"{what} {seconds[name]:.1f} s" for name, what in PARTS.items())
    lines.append(f"    took: {took} ({media['newly_probed']:,} probed anew)")
    return "\n".join(lines)


def _measures_text(kind: str, measures: dict) -> list[str]:
    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{value} ({n:,})" for value, n in counts.items())

    size = f"{measures['bytes'] / 1e9:.2f} GB" if measures["bytes"] > 1e8 else f"{measures['bytes'] / 1e6:.1f} MB"
    what = f"{listed(measures['codecs'])}; {listed(measures['sizes'])}"
    lines = [f"    {kind}: {measures['files']:,} files, {size}; {what}"]
    if "frames" in measures:
        frames, seconds, apart = (measures[name] for name in ("frames", "seconds", "frames_per_keyframe"))
        lines.append(
            f"    lengths: {frames['0']:.0f} to {frames['100']:.0f} frames, median {frames['50']:.0f} "
            f"({seconds['50']:.1f} s); frames per second: {listed(measures['fps'])}; a keyframe every "
            f"{apart['50']:.0f} frames (median)"
        )
    return lines
