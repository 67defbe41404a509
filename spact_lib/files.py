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

from spact_lib.errors import UserError

REFUSED = "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EIO ENOTDIR ENAMETOOLONG".split()
DISK_ERRORS = [getattr(errno, name) for name in REFUSED]
LEFTOVER = re.compile(r"\.(.*\.[0-9a-f]{8}\.tmp(\..*)?|tmp\w{6})")  # of atomic_path; of safetensors


@contextmanager
def disk_errors(path: Path | None = None) -> Iterator[None]:
    """Within: what a full or read-only disk raises becomes one sentence, a UserError.

    Args:
        path: what is being written; None: the file that the error names.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if reason := _disk_error(error):
            where = path or getattr(error, "filename", None) or "a file"
            raise UserError(
                f"cannot write {where}: {reason}; make room or make it writable, or choose another place (the store: "
                "SPACT_RUNS); what was finished before is kept, and the same command continues"
            ) from error
        raise


def _disk_error(error: BaseException | None) -> str | None:
    """The system's words for what a disk refused. torch hides it behind its own error, safetensors in the text."""
    while error is not None:
        for number in DISK_ERRORS:
            if getattr(error, "errno", None) == number or f"{os.strerror(number)} (os error {number})" in str(error):
                return os.strerror(number)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing below ``folder``; only where a lock keeps all others from writing."""
    for path in folder.rglob(".*"):
        if LEFTOVER.fullmatch(path.name) and path.is_file():
            path.unlink()


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # of a broken encoding, too
        raise UserError(f"{path} is damaged; remove {path.parent}, and the same command makes it again") from None


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` when the block ends without an error.

    The suffix is kept, because PyAV and pandas choose the format by it; of a long name the rest is cut, because names
    have 255 bytes at most.

    Raises:
        UserError: the disk is full or read-only; what was at ``path`` is still there.
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
