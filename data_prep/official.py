"""What the readers of official files share: text in, faults named with file and line, validation rows cut out."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pandas as pd

from spact_lib.errors import UserError

VALIDATION_SHARE = 1 / 6


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, stripped line) of a text file, without its empty lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; unpack the official files there") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def read_json(path: Path) -> dict:
    """The object in a JSON file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}; unpack the official files there") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}; an object is expected")
    return content


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file that has at least ``columns``."""
    lines = [line for _, line in read_lines(path)]
    rows = csv.DictReader(lines)
    for column in columns:
        if column not in (rows.fieldnames or []):
            raise UserError(f"{path}, line 1: there is no column {column!r}; expected {', '.join(columns)}")
    for row in rows:
        if None in row or None in row.values():
            malformed(path, rows.line_num, lines[rows.line_num - 1], ",".join(rows.fieldnames))
        yield rows.line_num, row


def malformed(path: Path, line: int, found: str, expected: str) -> NoReturn:
    raise UserError(f"{path}, line {line}: {found[:80]!r} is not of the form {expected!r}; replace the file")


def cut_validation(rows: pd.DataFrame, within: str | None = None) -> pd.DataFrame:
    """Turn about a sixth of the training rows into validation rows, by whole groups, never touching test rows.

    Groups (column "group": videos from one source) go over from the smallest on, for each value of column ``within``
    separately, as long as a group is left to train on; so each class with two groups has rows of both kinds.
    """
    split = rows["split"].copy()
    train = rows[rows["split"] == "train"]
    parts = [part for _, part in train.groupby(within)] if within else [train]
    for part in parts:
        sizes = part["group"].value_counts()
        order = sorted(sizes.index, key=lambda group: (sizes[group], group))
        cut, chosen = 0, []
        for group in order[:-1]:
            if cut >= VALIDATION_SHARE * len(part):
                break
            chosen.append(group)
            cut += sizes[group]
        split[part.index[part["group"].isin(chosen)]] = "val"
    return rows.assign(split=split)
