"""What the readers of official files share: text in, faults named with file and line, validation rows cut out."""

import csv
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import pandas as pd

from spact_lib.errors import UserError

VALIDATION_SHARE = 1 / 6

# How an archive is unpacked, by the ending of its name. Nothing is unpacked here: archives of others can name files
# outside the folder, and the tools made for them know how to refuse that.
_UNPACK = {
    ".rar": "unrar x {file} {folder}/",
    ".zip": "unzip {file} -d {folder}",
    ".tar.gz": "tar -xzf {file} -C {folder}",
    ".tgz": "tar -xzf {file} -C {folder}",
    ".tar": "tar -xf {file} -C {folder}",
}


def absent(path: Path, *archives: str) -> UserError:
    """The error for a part of the official layout that is not there; it says how to unpack it if its archive is.

    ``archives`` are the names, without ending, that the official archive may have; it is looked for beside ``path``
    and in it.
    """
    for folder in (path.parent, path):
        for file in sorted(folder.glob("*")):
            for ending, command in _UNPACK.items():
                if file.name.lower().endswith(ending) and file.name[: -len(ending)].lower() in archives:
                    how = command.format(file=shlex.quote(str(file)), folder=shlex.quote(str(path.parent)))
                    return UserError(f"{file} is still packed; unpack it so that {path} is there: {how}")
    return UserError(f"there is no {path}; unpack the official files there")


def refuse_packed(path: Path, *archives: str) -> None:
    """Raise UserError where the media folder ``path`` is not there, or empty, but its archive is."""
    if not any(file.is_dir() or file.suffix == ".avi" for file in path.glob("*")):
        error = absent(path, *archives)
        if "still packed" in str(error):
            raise error


def annotation_folder(root: Path, name: str, pattern: str, *archives: str) -> Path:
    """The folder of the files ``pattern``: ``root/name``, as the archive makes it, or ``root`` itself."""
    for folder in (root / name, root):
        if any(folder.glob(pattern)):
            return folder
    raise absent(root / name, *archives)


def read_text(path: Path) -> str:
    """A UTF-8 text file, without its byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; unpack the official files there") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _not_utf8(path, content.count(b"\n", 0, error.start) + 1, error)


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> NoReturn:
    raise UserError(f"{path}, line {line}: {error.object[error.start]:#04x} is no UTF-8; replace the file") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, stripped line) of a text file, without its empty lines."""
    # Not splitlines: it also splits at characters that no editor counts as the end of a line.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def read_json(path: Path) -> dict:
    """The object in a JSON file. A name that stands twice in an object is a fault: one of the two would be lost."""

    def unique(pairs: list[tuple[str, object]]) -> dict:
        names = [name for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{path} has {twice[0]!r} twice; remove one of them")
        return dict(pairs)

    text = read_text(path)
    try:
        content = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); replace the file") from error
    except (ValueError, RecursionError) as error:  # a number too long, brackets too deep
        raise UserError(f"{path} is not valid JSON ({error}); replace the file") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}; an object is expected")
    return content


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file that has at least ``columns``; one row in memory at a time."""
    number = 1
    try:
        with open(path, "rb") as file:
            rows = csv.reader(_decoded(path, file), strict=True)
            header = next(rows, [])
            for column in columns:
                if header.count(column) != 1:
                    what = "there are several columns" if column in header else "there is no column"
                    raise UserError(f"{path}, line 1: {what} {column!r}; expected {', '.join(columns)}")
            for cells in rows:
                number = rows.line_num
                if cells and len(cells) != len(header):
                    malformed(path, number, ",".join(cells), ",".join(header))
                if cells:
                    yield number, dict(zip(header, cells, strict=True))
    except FileNotFoundError as error:
        raise absent(path, path.stem.lower()) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; unpack the official files there") from error
    except csv.Error as error:
        raise UserError(f"{path}, line {number + 1}: not a table ({error}); replace the file") from error


def _decoded(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            _not_utf8(path, number, error)


def malformed(path: Path, line: int, found: str, expected: str) -> NoReturn:
    raise UserError(f"{path}, line {line}: {found[:80]!r} is not of the form {expected!r}; replace the file")


def is_name(name: str) -> bool:
    """Whether a file or folder may be called so: printable (and so writable as UTF-8), not padded, no separator."""
    return name.isprintable() and name == name.strip() and name not in ("", ".", "..") and not set(name) & set("/\\|")


def check_class_folders(folder: Path, classes: Iterable[str], lists: Path) -> None:
    """Raise UserError where videos lie in ``folder``, but not in one sub-folder for each of ``classes`` and no other.

    A folder without videos is fine: manifests can be made before the videos are there.
    """
    found = {entry.name for entry in folder.glob("*") if any(entry.glob("*.avi"))}
    for name in sorted(set(classes) - found if found else ()):
        raise UserError(f"{folder} has no videos of class {name!r}, which {lists} lists; unpack them there")
    for name in sorted(found - set(classes)):
        raise UserError(f"{folder / name} holds videos, but {lists} lists no class {name!r}; move the folder away")


def cut_validation(rows: pd.DataFrame, within: str | None = None, source: tuple[str, ...] = ("group",)) -> pd.DataFrame:
    """Turn about a sixth of the training rows into validation rows, by whole films, never touching test rows.

    Rows that agree in the columns ``source`` come from one film: they go over together, whatever their classes. Class
    by class (column ``within``; without it all rows are one class), films go over from the smallest on until a sixth
    of the class has, what earlier classes took along included; but of no class the last film that is left to train on.
    So each class with two films of its own has rows of both kinds.
    """
    train = rows[rows["split"] == "train"]
    films = list(zip(*(train[column] for column in source), strict=True))
    classes = train[within].tolist() if within else [""] * len(train)
    sizes, held = Counter(films), defaultdict(Counter)  # class -> film -> its rows of this class
    for name, film in zip(classes, films, strict=True):
        held[name][film] += 1
    of_film = defaultdict(set)
    for name, counts in held.items():
        for film in counts:
            of_film[film].add(name)
    left, chosen = {name: len(counts) for name, counts in held.items()}, set()
    for name in sorted(held):
        cut = sum(n for film, n in held[name].items() if film in chosen)
        for film in sorted(held[name].keys() - chosen, key=lambda film: (sizes[film], film)):
            if cut >= VALIDATION_SHARE * held[name].total():
                break
            if all(left[shown] > 1 for shown in of_film[film]):
                chosen.add(film)
                cut += held[name][film]
                for shown in of_film[film]:
                    left[shown] -= 1
    gone = train.index[[film in chosen for film in films]]
    return rows.assign(split=rows["split"].where(~rows.index.isin(gone), "val"))
