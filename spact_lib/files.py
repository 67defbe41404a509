"""Files that are either complete or absent: written under a temporary name, then renamed. Text files, line by line.

The temporary names begin with a dot, which ``Path.glob`` does not leave out by itself: whoever lists files asks for
``[!.]*``.
"""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spact_lib.errors import DamagedError, DiskError, UserError

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS]  # whoever reads never meets these
REFUSED = [errno.EACCES, errno.EPERM, errno.EIO]
NAMES = [errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG]  # another name would do
LEFTOVER = re.compile(r"\.(.*\.[0-9a-f]{8}\.tmp(\..*)?|tmp\w{6})")  # of atomic_path; of safetensors


@contextmanager
def disk_errors(path: Path | None = None) -> Iterator[None]:
    """Within: what a disk refuses becomes one sentence.

    Args:
        path: what is being written; None: the file that the error names.

    Raises:
        DiskError: the disk is full or read-only.
        UserError: a name that no file can have there, or a file that cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number, named = _disk_error(error)
        if number is None:
            raise
        kept = "what was finished before is kept, and the same command continues"
        if number in FULL or (path and (named is None or _beside(named, path))):
            raise (UserError if number in NAMES else DiskError)(
                f"cannot write {path or named or 'a file'}: {os.strerror(number)}; make room or make it writable, or "
                f"choose another place (the store: SPACT_RUNS); {kept}"
            ) from error
        raise UserError(
            f"cannot use {named or 'a file'}: {os.strerror(number)}; correct its name or its permissions, or choose "
            f"another place; {kept}"
        ) from error


def _disk_error(error: BaseException | None) -> tuple[int | None, str | None]:
    """What a disk refused (errno) and the file. torch hides it behind its own error, safetensors in the text."""
    while error is not None:
        for number in (*FULL, *REFUSED, *NAMES):
            if getattr(error, "errno", None) == number or f"{os.strerror(number)} (os error {number})" in str(error):
                # Of a rename the target: the source is a temporary file of ours. PyAV is given URLs.
                named = getattr(error, "filename2", None) or getattr(error, "filename", None)
                return number, named and str(named).removeprefix("file:")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None, None


def _beside(named: str, path: Path) -> bool:
    """Whether an error that names a file was met on the way to ``path``, and not by reading another one."""
    file, folder = Path(named).absolute(), path.absolute().parent
    return file.is_relative_to(folder) or folder.is_relative_to(file)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing below ``folder``; only where a lock keeps all others from writing."""
    for path in folder.rglob(".*"):
        if LEFTOVER.fullmatch(path.name) and path.is_file():
            path.unlink()


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is none.
        OSError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its brackets are too deep") from None


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds.

    Raises:
        DamagedError: it is damaged.
    """
    try:
        return load_json(path)
    except ValueError:
        raise DamagedError(f"{path} is damaged; restore or remove this file, and run the same command again") from None


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` when the block ends without an error.

    The suffix is kept, because PyAV and pandas choose the format by it; of a long name the rest is cut, because names
    have 255 bytes at most.

    Raises:
        UserError: as ``disk_errors`` says; what was at ``path`` is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: object) -> Path:
    """Write ``value`` as indented JSON to ``path`` atomically."""
    return write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def utf8_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file with their ends, without its byte order mark; one line in memory at a time.

    Raises UserError naming the line of a byte that is no UTF-8, and OSError.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise UserError(f"{path}, line {number}: {byte:#04x} is no UTF-8; save or fetch it as UTF-8") from error
