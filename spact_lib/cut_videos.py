"""Whether a video file is cut off: what containers promise, against what is there."""

import struct
from pathlib import Path
from typing import BinaryIO

import av

from spact_lib.errors import UserError

MATROSKA_TOP = (0x1A45DFA3, 0x18538067, 0xEC, 0xBF)  # header, segment, void, checksum


def refuse_cut(
    path: str | Path, container: av.container.InputContainer, stream: av.VideoStream, packets: int, corrupt: bool
) -> None:
    """Raise UserError if fewer packets could be read than the file lists, or one of them was ``corrupt``.

    GIF, WMV, Y4M, raw, program and transport streams and live recordings do not say how much there was: of one that
    ends between two frames the rest is not missed.
    """
    name = container.format.name
    listed = len(stream.index_entries) if name.startswith("mov") else 0
    if name == "avi" and _riff_is_cut(Path(path)):  # else a header of more frames is one that dropped some
        listed = stream.frames
    corrupt |= name.startswith("matroska") and _segment_is_cut(Path(path))
    if corrupt and name == "mpegts":  # a packet of a broadcast was lost, or two recordings were joined
        raise UserError(
            f"{path} has damaged places among its {packets} packets; write what can be read to a file of its own: "
            "ffmpeg -i INPUT -c copy OUTPUT.mkv"
        )
    if corrupt or packets < listed:
        raise UserError(f"{path} is cut off after {packets} packets; copy or download it again")


def _riff_is_cut(path: Path) -> bool:
    """Whether the last RIFF chunk of an AVI file promises more bytes than there are (0: it promises nothing)."""
    at, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            name, length = struct.unpack("<4sI", file.read(8))
            if name != b"RIFF":
                return False
            at += 8 + length + length % 2
    return at > size + 1  # whose padding byte not everybody writes


def _segment_is_cut(path: Path) -> bool:
    """Whether the last element of a Matroska or WebM file promises more bytes than there are (a live one: nothing)."""
    at, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            name, _ = _ebml_number(file, marked=True)
            length, unknown = _ebml_number(file)
            if name not in MATROSKA_TOP or unknown:
                return False
            at = file.tell() + length
    return at > size


def _ebml_number(file: BinaryIO, marked: bool = False) -> tuple[int, bool]:
    """One to eight bytes, as many as the first one's leading zeros say, and whether all other bits are ones (a length
    that is not known); ``marked``: with the bit that ends those zeros, as names are written."""
    first = file.read(1)
    n = 9 - first[0].bit_length() if first else 9
    if n > 8:  # the end of the file, or no such number
        return 0, True
    value = int.from_bytes(first + file.read(n - 1))
    rest = value & (1 << 7 * n) - 1
    return value if marked else rest, rest == (1 << 7 * n) - 1
