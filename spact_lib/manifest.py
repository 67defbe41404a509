"""One table describes any dataset: a row per video, image or frame range, plus its label tasks.

On disk: a folder with ``manifest.csv`` and, where the order of the classes matters, ``tasks.json``. Columns:
``path`` (relative to the root), ``split`` (train, val, test, unused), optional ``start`` and ``end`` (frames
[start, end), empty = whole file) and ``group``; a task's column is headed ``NAME:single`` (one class name per
cell) or ``NAME:multi`` (class names joined by ``|``, empty = none); all other columns are kept as extras. Two of
them have a meaning: ``missing_from`` is the split of a row that is "unused" only because its file was not on the disk
or could not be read, ``persons`` are boxes where persons are (``obfuscation.marked_persons``).
In memory a task's column is plainly NAME. Training code knows manifests and tasks, never dataset names.
"""

import csv
import filecmp
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from filelock import FileLock
from scipy.sparse import csr_array, hstack, issparse

from spact_lib.errors import MissingError, UserError, unknown_name
from spact_lib.files import load_json, utf8_lines, write_json

SPLITS = ("train", "val", "test", "unused")
KINDS = ("single", "multi")
PERSONS = "persons"
RESERVED = ("path", "split", "start", "end", "group")
LEAVE_OUT = "; or leave out all such files: --bad-files skip (of spact prepare, cache or evaluate)"


@dataclass(frozen=True)
class Task:
    """A label task: its name, its kind and its classes in order."""

    name: str
    kind: Literal["single", "multi"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name(f"kind of task {self.name!r}:", self.kind, KINDS)
        if self.name in ("", *RESERVED):
            raise UserError(f"a task cannot be called {self.name!r}; choose a name that is no other column's")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UserError(f"task {self.name!r} needs classes, each named once; it has {list(self.classes)}")
        for name in self.classes:
            if not name or name != name.strip() or (self.kind == "multi" and "|" in name):
                raise UserError(f"task {self.name!r}: class {name!r} is empty, padded or has '|'; rename it")

    @property
    def n_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, eq=False)
class Manifest:
    """A dataset. ``rows`` holds the five documented columns (added if absent), the extras, a column per task.

    Text columns are strings ("" = empty), ``start`` and ``end`` nullable integers (``pd.NA`` = empty). ``facts`` is
    what its reader knows and the rows do not tell (what -> a number, a text, or counts by name), for the report.
    """

    name: str
    root: Path
    tasks: dict[str, Task]
    rows: pd.DataFrame
    facts: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = self.rows.reset_index(drop=True)
        columns = {column: _text(given[column]) for column in given.columns}
        for column in ("start", "end", "group"):
            columns.setdefault(column, pd.Series("", index=given.index, dtype=str))
        for column in ("start", "end"):
            columns[column] = _frame_numbers(columns[column], f"{self.name}: {column}")
        order = [c for c in RESERVED if c in columns] + [c for c in columns if c not in RESERVED]
        object.__setattr__(self, "rows", pd.DataFrame({column: columns[column] for column in order}))
        object.__setattr__(self, "root", Path(self.root))

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, split: str) -> "Manifest":
        """The rows of one split (possibly none)."""
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        return replace(self, rows=self.rows[self.rows["split"] == split])

    def task(self, name: str) -> Task:
        """A label task by name; "a+b" is one task with all classes of the multi-label tasks a and b.

        Raises:
            UserError: there is none, or two of them name a class alike.
        """
        if name in self.tasks:
            return self.tasks[name]
        parts = [self.tasks.get(part) for part in name.split("+")]
        if len(parts) < 2 or not all(part and part.kind == "multi" for part in parts):
            raise unknown_name(f"task of dataset {self.name!r}:", name, self.tasks)
        return Task(name, "multi", tuple(c for part in parts for c in part.classes))

    def labels(self, task: str) -> np.ndarray:
        """Labels in row order: int64 (N,) for a single-label task, uint8 multi-hot (N, K) for multi-label.

        Only a row of the split "unused" may have no known class: -1 (single), all zero (multi).
        """
        found = self.sparse_labels(task)
        return found.toarray() if issparse(found) else found

    def sparse_labels(self, task: str) -> np.ndarray | csr_array:
        """``labels`` with multi-hot ones as a sparse array: of P-HVU's 245,212 rows the dense ones are 472 MB."""
        if self.task(task).name not in self.tasks:
            return hstack([self.sparse_labels(part) for part in task.split("+")], format="csr")
        index = {c: i for i, c in enumerate(self.tasks[task].classes)}
        cells = self.rows[task].tolist()
        if self.tasks[task].kind == "single":
            return np.fromiter((index.get(cell, -1) for cell in cells), np.int64, len(cells))
        classes, ends = array("i"), array("i", [0])
        for cell in cells:
            classes.extend({index[label] for label in cell.split("|") if label in index})
            ends.append(len(classes))
        ones, *places = np.ones(len(classes), np.uint8), *(np.array(part, np.int32) for part in (classes, ends))
        return csr_array((ones, *places), (len(cells), len(index)))

    def leave_out(self, column: str, value: object) -> "Manifest":
        """Rows with ``column == value`` become test, the others train (no val); "unused" rows stay unused.

        A single-label task may lose all training rows of a class by this: ``refuse_unlearned`` tells.
        """
        if column not in self.rows:
            raise unknown_name(f"column of dataset {self.name!r}:", column, self.rows.columns)
        used = self.rows["split"] != "unused"
        chosen = used & (self.rows[column].astype(str) == str(value))
        if not chosen.any():
            raise unknown_name(f"{column} to leave out", str(value), self.rows.loc[used, column].unique())
        split = np.where(chosen, "test", np.where(used, "train", "unused"))
        return replace(self, rows=self.rows.assign(split=split))

    @property
    def marks_persons(self) -> bool:
        """Whether the rows say where persons are."""
        return PERSONS in self.rows and PERSONS not in self.tasks

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over tasks and rows; neither name, root, facts nor the order of the columns matters."""
        tasks = [(t.name, t.kind, t.classes) for _, t in sorted(self.tasks.items())]
        digest = hashlib.sha256(json.dumps(tasks).encode())
        for column in sorted(self.rows.columns):
            digest.update(json.dumps([column, _text(self.rows[column]).tolist()]).encode())
        return digest.hexdigest()


def read_manifest(folder_or_csv: str | Path) -> Manifest:
    """Read and check a dataset: a folder with ``manifest.csv`` (and ``tasks.json``), or a CSV of one's own.

    ``path`` is relative to the root that tasks.json names, else to the CSV's folder. Without tasks.json the classes of
    a task are its sorted labels. UserError for any fault ``check`` knows.
    """
    path = Path(folder_or_csv)
    path = path / "manifest.csv" if path.is_dir() else path
    # tasks.json describes the manifest.csv beside it, not any other CSV that lies in that folder.
    described = _read_tasks(path.with_name("tasks.json")) if path.name == "manifest.csv" else None
    header, lines = _read_csv(path)
    marked = [column.rpartition(":") for column in header]
    kinds = {task: kind for task, mark, kind in marked if mark}
    for task, kind in kinds.items():
        if kind not in KINDS:
            raise unknown_name(f"kind in the header '{task}:{kind}' of {path}", kind, KINDS)
    columns = [task if mark else column for column, (task, mark, _) in zip(header, marked, strict=True)]
    for column in columns:
        if columns.count(column) > 1:
            raise UserError(f"{path} has two columns called {column!r}; rename or remove one of them")
    required = [f"{t.name}:{t.kind}" for t in described[2]] if described else []
    for column in ["path", "split", *required]:
        if column not in header:
            raise UserError(f"{path} has no column {column!r}; its columns are: {', '.join(header)}")
    if described and len(kinds) > len(required):
        raise UserError(f"{path} heads more columns as tasks than tasks.json lists ({', '.join(required)})")
    if not kinds:
        raise UserError(f"{path} has no label column; head one like 'action:single' or 'attributes:multi'")
    if not lines:
        raise UserError(f"{path} has no rows; list at least one file")
    rows = pd.DataFrame(lines, columns=columns, dtype=str)
    for task in (task for task, kind in kinds.items() if kind == "multi"):
        rows[task] = rows[task].str.replace(r"\s*\|\s*", "|", regex=True)
    # The name of a bare manifest.csv is its folder's: "manifest" would say nothing.
    name = path.resolve().parent.name if path.name == "manifest.csv" else path.stem
    name, stored, tasks, facts = described or (name, ".", [_infer(*item, rows) for item in kinds.items()], {})
    manifest = Manifest(name, path.parent / stored, {task.name: task for task in tasks}, rows, facts)
    check(manifest, str(path))
    return manifest


def write_manifest(manifest: Manifest, folder: str | Path, beside: Mapping[str, pd.DataFrame] | None = None) -> Path:
    """Check ``manifest`` and write it to ``folder``, with the tables ``beside`` (file name -> table).

    All files are written aside and then moved in together, manifest.csv last; where one of the others changes, the old
    manifest.csv goes first. So whoever is killed leaves the old files, the new ones, or a folder that is not a dataset.
    A root inside the folder, or beside it, is stored relative to it, so that both can be moved together.

    Returns:
        The path of manifest.csv.
    """
    folder = Path(folder)
    check(manifest, manifest.name)
    root, here = manifest.root.resolve(), folder.resolve()
    stored = Path(os.path.relpath(root, here)) if root.is_relative_to(here.parent) else root
    tasks = [{"name": t.name, "kind": t.kind, "classes": t.classes} for t in manifest.tasks.values()]
    described = {"name": manifest.name, "root": stored.as_posix(), "tasks": tasks}
    rows = manifest.rows
    rows = rows.drop(columns=[c for c in ("start", "end", "group") if not _text(rows[c]).any()])
    rows = rows.rename(columns={t.name: f"{t.name}:{t.kind}" for t in manifest.tasks.values()})
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / ".new"
    with FileLock(folder / ".lock"):
        shutil.rmtree(new, ignore_errors=True)  # what a killed run has left
        try:
            write_json(new / "tasks.json", described | ({"facts": manifest.facts} if manifest.facts else {}))
            for name, table in [*(beside or {}).items(), ("manifest.csv", rows)]:
                with open(new / name, "w", encoding="utf-8", newline="") as file:
                    table.to_csv(file, index=False, lineterminator="\n")
                    file.flush()
                    os.fsync(file.fileno())
            others = ["tasks.json", *(beside or {})]
            if not all(_same(new / name, folder / name) for name in others):
                (folder / "manifest.csv").unlink(missing_ok=True)
            for name in [*others, "manifest.csv"]:
                os.replace(new / name, folder / name)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder / "manifest.csv"


def _same(one: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(one, other, shallow=False)


def listed_splits(manifest: Manifest) -> pd.Series:
    """The split of each row; of one that is set aside because its file is missing, the split it was set aside from."""
    split = manifest.rows["split"]
    if "missing_from" not in manifest.rows:
        return split
    before = manifest.rows["missing_from"]
    return before.where((split == "unused") & before.isin(SPLITS), split)


def missing_files(manifest: Manifest) -> list[str]:
    """Paths (relative to the root) of rows in use where there is no file, each once."""
    used = manifest.rows.loc[manifest.rows["split"] != "unused", "path"]
    return [path for path in used.unique() if not (manifest.root / path).is_file()]


def refuse_missing(manifest: Manifest) -> None:
    """Raise MissingError where files of rows in use are missing: once, before hours of training, with their number."""
    missing = missing_files(manifest)
    if missing:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise MissingError(
            f"{len(missing)} of the files in manifest {manifest.name!r} are not under {manifest.root}: {shown}; "
            "put them there or remove their rows"
        )


def refuse_faults(manifest: Manifest, faults: Mapping[str, str]) -> None:
    """Raise UserError where there are ``faults``, path -> sentence: their number and the first one's sentence."""
    if len(faults) == 1:
        raise UserError(f"{next(iter(faults.values()))}{LEAVE_OUT}")
    if faults:
        raise UserError(
            f"{len(faults)} of the files in manifest {manifest.name!r} cannot be used; first: "
            f"{next(iter(faults.values()))}{LEAVE_OUT}"
        )


def set_aside(manifest: Manifest, chosen: pd.Series | np.ndarray) -> Manifest:
    """The chosen rows become "unused", with their split kept in ``missing_from``."""
    rows, away = manifest.rows, (manifest.rows["split"] != "unused") & chosen
    before = rows["missing_from"] if "missing_from" in rows else pd.Series("", index=rows.index)
    split, missing_from = rows["split"].where(~away, "unused"), before.where(~away, rows["split"])
    return replace(manifest, rows=rows.assign(split=split, missing_from=missing_from))


def rows_set_aside(manifest: Manifest) -> dict[str, int]:
    """Split -> how many of its rows are set aside; empty where none is."""
    listed = listed_splits(manifest)[manifest.rows["split"] == "unused"].value_counts()
    return {split: int(listed[split]) for split in SPLITS[:-1] if split in listed}


def refuse_unlearned(manifest: Manifest, task: str) -> None:
    """Raise UserError for a class of a single-label task that is tested but not trained: its score means nothing."""
    if manifest.tasks[task].kind != "single":
        return
    cells, split = manifest.rows[task], manifest.rows["split"]
    unlearned = sorted(set(cells[split == "test"]) - set(cells[split == "train"]))
    if unlearned and (split == "train").any():
        raise UserError(
            f"class {unlearned[0]!r} of task {task!r} of {manifest.name!r} has test rows but no training row; "
            "leave out by another column, or add one"
        )


def check(manifest: Manifest, where: str) -> None:
    """Raise UserError for the first fault of ``manifest``; line 1 is the header of its CSV."""
    rows = manifest.rows
    for column in ["path", "split", *manifest.tasks]:
        if column not in rows:
            raise UserError(f"{where} has no column {column!r}; its columns are: {', '.join(rows.columns)}")
    if rows.empty:
        raise UserError(f"{where} has no rows; list at least one file")

    def refuse(bad: Iterable[bool], column: str, reason: str) -> None:
        faults = np.flatnonzero(np.asarray(bad, bool))
        if len(faults):
            n = int(faults[0])
            raise UserError(f"{where}, line {n + 2}: {column} {str(rows[column].iloc[n])!r} {reason}")

    refuse(~rows["split"].isin(SPLITS), "split", f"is unknown; choose one of: {', '.join(SPLITS)}")
    refuse(rows["path"] == "", "path", "is empty; name a file relative to the root")
    refuse(rows["path"].str.contains("\0", regex=False), "path", "has a NUL byte, as no file name may; correct it")
    # Of Windows too: a manifest means the same everywhere.
    refuse(rows["path"].str.match(r"(?s)[/\\~]|.:|(.*[/\\])?\.\.([/\\]|\Z)"), "path", "must be relative, no ..")
    backwards = (rows["end"] <= rows["start"].fillna(0)).fillna(False)
    refuse(backwards, "end", "is not greater than start; frames [start, end) must be at least one")
    used = (rows["split"] != "unused").to_numpy()
    for task in manifest.tasks.values():
        cells = rows[task.name]
        listed = ", ".join(task.classes[:20]) + (", ..." if task.n_classes > 20 else "")
        outside = f"is a label outside the task; legal: {listed}"
        if task.kind == "multi":
            legal = frozenset(task.classes)
            unknown = [bool(cell) and not legal.issuperset(cell.split("|")) for cell in cells]
            refuse(used & np.array(unknown), task.name, outside)
            continue
        refuse(used & (cells == ""), task.name, f"is empty; write a class ({listed}) or set split to unused")
        refuse(used & ~cells.isin(task.classes), task.name, outside)
        learned = set(cells[rows["split"] == "train"])
        # A dataset without training rows only evaluates; its classes are learned elsewhere.
        empty = [c for c in task.classes if c not in learned] if learned else []
        if empty:
            raise UserError(f"{where}: class {empty[0]!r} of task {task.name!r} has no training row; add one")


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    # Not pandas: it renames duplicate columns, and takes the first one as an index when lines are too long.
    try:
        reader, rows, read = csv.reader(utf8_lines(path), strict=True), [], 0
        known: dict[str, str] = {}  # splits and labels are the same in many rows: 250,000 rows then take 50 MB less
        for row in reader:
            rows.append([known.setdefault(c, c) if len(known) < 10_000 else known.get(c, c) for c in row])
            read = reader.line_num
        header, *lines = rows or [[]]
    except csv.Error as error:  # an open quote is noticed at the end of the file, and stands behind the last good row
        raise UserError(f"{path}, line {read + 1}: not a CSV table ({error}); correct it") from error
    except FileNotFoundError as error:
        raise MissingError(f"there is no dataset at {path}; give a CSV file or a folder with manifest.csv") from error
    except OSError as error:
        raise UserError(f"cannot read {path} as a CSV table: {error}; name a file that can be read") from error
    # As a spreadsheet in German or French writes it; one column is no dataset.
    if len(header) == 1 and (mark := next((mark for mark in ";\t" if mark in header[0]), None)):
        raise UserError(f"{path} is separated by {mark!r}; save it with commas between the columns")
    while lines and not lines[-1]:
        lines.pop()
    for n, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise UserError(f"{path}, line {n}: {len(line)} cells, but {len(header)} columns; quote commas")
    return [column.strip() for column in header], lines


def _read_tasks(path: Path) -> tuple[str, str, list[Task], dict] | None:
    if not path.exists():
        return None
    try:
        content = load_json(path)
        tasks = [Task(t["name"], t["kind"], tuple(map(str, t["classes"]))) for t in content["tasks"]]
        name, root, facts = str(content["name"]), str(content["root"]), dict(content.get("facts", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} must hold name, root and tasks (name, kind, classes): {error!r}") from error
    if name in ("", ".", "..") or set(name) & set("/\\"):  # folders are called so
        raise UserError(f"{path}: the name {name!r} is no name of a folder; leave out separators and dots")
    return name, root, tasks, facts


def _infer(name: str, kind: str, rows: pd.DataFrame) -> Task:
    cells = _text(rows.loc[_text(rows["split"]) != "unused", name])
    labels = {label for cell in cells for label in (cell.split("|") if kind == "multi" else [cell])} - {""}
    return Task(name, kind, tuple(sorted(labels)))


def _text(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def _frame_numbers(column: pd.Series, where: str) -> pd.Series:
    # "7.0" is what pandas makes of 7 in a column with gaps. Nine digits: what does not fit an integer is a mistake.
    for n in np.flatnonzero(~column.str.fullmatch(r"([0-9]{1,9}(\.0+)?)?")):
        raise UserError(f"{where} in line {n + 2} is {column.iloc[n]!r}; write a frame number or nothing")
    return pd.to_numeric(column.where(column != "", None)).astype("Int64")
