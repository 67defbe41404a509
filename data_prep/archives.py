"""Official files that are still packed, or lie a folder too deep: found, and how to unpack them said.

Nothing is unpacked here: archives of others can name files outside the folder, and the tools made for them know how to
refuse that.
"""

import re
import shlex
from pathlib import Path

from spact_lib.errors import UserError

# Ending -> commands, any of which unpacks the archive {file} into {folder}.
_UNPACK = {
    ".rar": (
        "unrar x {file} {folder}/",
        "7z x {file} -o{folder}",
        "unar -o {folder} {file}",
        "bsdtar -xf {file} -C {folder}",
    ),
    ".zip": ("unzip {file} -d {folder}", "7z x {file} -o{folder}"),
    ".7z": ("7z x {file} -o{folder}",),
    ".tar.gz": ("tar -xzf {file} -C {folder}",),
    ".tgz": ("tar -xzf {file} -C {folder}",),
    ".tar": ("tar -xf {file} -C {folder}",),
}


class Absent(UserError):
    """A part of the official layout is not there. ``packed``: its archive is."""

    def __init__(self, sentence: str, packed: bool = False) -> None:
        super().__init__(sentence)
        self.packed = packed


def absent(path: Path, *archives: str, root: Path | None = None) -> Absent:
    """The error for a part of the official layout that is not there; it says how to unpack it if its archive is.

    ``archives`` are the names, without ending, that the official archive has; a browser's "(1)", "copy" and GitHub's
    "-master" are no other name. It is looked for in ``root``, beside ``path`` and in it; where there are only archives
    of other names, these are listed.
    """
    known, others = {_plain(name) for name in archives}, []
    for folder in dict.fromkeys((root or path.parent, path.parent, path)):
        for file in sorted(folder.glob("*")):
            if not (ending := _ending(file)):
                continue
            how = _how_to_unpack(ending, _word(file), _word(path.parent))
            if _plain(file.name[: -len(ending)]) in known:
                return Absent(f"{file} is still packed; unpack it so that {path} is there: {how}", packed=True)
            others.append((file.name, how))
    if others:
        names, (_, how) = ", ".join(name for name, _ in others), others[0]
        return Absent(f"there is no {path}, but these archives: {names}; unpack the one that holds it, as in: {how}")
    return Absent(f"there is no {path}; unpack the official files there")


def refuse_packed(path: Path, *archives: str, root: Path | None = None) -> None:
    """Raise Absent where the media folder ``path`` is not there, or holds nothing but archives, and its archive is."""
    if all(_ending(file) for file in path.glob("*")):
        error = absent(path, *archives, root=root)
        if error.packed:
            raise error


def annotation_folder(root: Path, name: str, pattern: str, *archives: str) -> Path:
    """The folder of the files ``pattern``: ``root/name``, ``root`` itself, or ``name`` in a folder of the root.

    The last is what an archive makes that holds a folder of its own, such as GitHub's ``PA-HMDB51-master``.
    """
    for folder in (root / name, root, *sorted(root.glob(f"*/{name}"))):
        if any(folder.glob(pattern)):
            return folder
    raise absent(root / name, *archives)


def unpack_each(folder: Path, ending: str) -> str:
    """A shell line that unpacks every archive with this ending in ``folder``, there."""
    how = _how_to_unpack(ending, '"$name"', ".")
    return f"cd {_word(folder)} && for name in ./*{ending}; do {how.partition(' (or ')[0]}; done"


def _word(path: Path) -> str:
    """A path as one word of a shell line, which no program takes for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


def _ending(file: Path) -> str | None:
    return next((ending for ending in _UNPACK if file.name.lower().endswith(ending)), None)


def _plain(name: str) -> str:
    """An archive's name without what downloading adds to it."""
    return re.sub(r"([ _-]*(\([0-9]+\)|copy|master|main))+$", "", name.lower())


def _how_to_unpack(ending: str, file: str, folder: str) -> str:
    first, *others = (command.format(file=file, folder=folder) for command in _UNPACK[ending])
    return first + (f" (or {', '.join(others)})" if others else "")
