"""What the readers of official files share: text in, faults named with file and line, validation rows cut out."""

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import pandas as pd

from data_prep.archives import absent
from spact_lib.errors import UserError
from spact_lib.files import utf8_lines

VALIDATION_SHARE = 1 / 6


def read_text(path: Path) -> str:
    """A UTF-8 text file, without its byte order mark."""
    try:
        return "".join(utf8_lines(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; unpack the official files there") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, stripped line) of a text file, without its empty lines."""
    # Not splitlines: it also splits at characters that no editor counts as the end of a line.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


class Json(dict):
    """The object in a JSON file, which knows in which line of the file each of its values stands.

    A name that stands twice in an object is a fault: one of the two would be lost. Raises UserError with file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._text = path, read_text(path)
        twice: list[str] = []

        def unique(pairs: list[tuple[str, object]]) -> dict:
            names = [name for name, _ in pairs]
            twice.extend(name for name in names if names.count(name) > 1)
            return dict(pairs)

        try:
            content = json.loads(self._text, object_pairs_hook=unique)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); replace the file") from error
        except (ValueError, RecursionError) as error:  # a number too long, brackets too deep
            raise UserError(f"{path} is not valid JSON ({error}); replace the file") from error
        if twice:
            seen: set[tuple] = set()
            place = next(place for place, _ in self._places() if place in seen or seen.add(place))
            raise UserError(f"{path}, line {self.line(*place, last=True)}: {place[-1]!r} is there twice; remove one")
        if not isinstance(content, dict):
            raise UserError(f"{path}, line 1: holds a JSON {type(content).__name__}; an object is expected")
        super().__init__(content)

    def where(self, *place: str | int) -> str:
        """File and line of the value at ``place``, a path of names and of positions in lists."""
        return f"{self.path}, line {self.line(*place)}"

    def line(self, *place: str | int, last: bool = False) -> int:
        """The line of the value at ``place`` (of the last one, where a name stands twice)."""
        offsets = [offset for found, offset in self._places() if found == place]
        return self._text.count("\n", 0, offsets[-1 if last else 0]) + 1

    def _places(self) -> Iterator[tuple[tuple, int]]:
        """(place, offset in the text) of every value, in order; the text is known to be valid."""
        text, scan = self._text, json.JSONDecoder().raw_decode
        stack: list[list] = []  # of each open object or list: its place and what the next value is called
        at, after_value = 0, False
        while True:
            while at < len(text) and text[at] in " \t\n\r:":
                at += 1
            if after_value and at < len(text) and text[at] == ",":
                at, after_value = at + 1, False
                continue
            if at < len(text) and text[at] in "]}":
                stack.pop()
                at, after_value = at + 1, True
                continue
            if after_value or at >= len(text):
                return
            place: tuple = ()
            if stack:
                outer, name = stack[-1]
                if name is None:
                    name, at = scan(text, at)
                    while text[at] in " \t\n\r:":
                        at += 1
                else:
                    stack[-1][1] += 1
                place = (*outer, name)
            yield place, at
            if text[at] in "[{":
                stack.append([place, 0 if text[at] == "[" else None])
                at += 1
            else:
                _, at = scan(text, at)
                after_value = True


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file that has at least ``columns``; one row in memory at a time."""
    number = 1
    try:
        rows = csv.reader(utf8_lines(path), strict=True)
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


def malformed(path: Path, line: int, found: str, expected: str) -> NoReturn:
    raise UserError(f"{path}, line {line}: {found[:80]!r} is not of the form {expected!r}; replace the file")


def is_name(name: str) -> bool:
    """Whether a file or folder may be called so: printable (and so writable as UTF-8), not padded, no separator."""
    return name.isprintable() and name == name.strip() and name not in ("", ".", "..") and not set(name) & set("/\\|")


def film_of(video: str, action: str) -> str | None:
    """The film that a clip of HMDB51 is cut from, by its name ``<film>_<action>_<five marks>_<n>.avi``; None: it is not
    named as a clip of this action. The first mark is what is seen of the body: u, f, h, l or t."""
    match = re.fullmatch(rf"(.+?)_{re.escape(action)}_[ufhlt]_.*\.avi", video)
    return match[1] if match else None


def hmdb51_form(action: str) -> str:
    """How ``film_of`` expects a clip to be named."""
    return f"<film>_{action}_<u, f, h, l or t>_....avi"


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
