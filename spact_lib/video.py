"""Frames out of video and image files, and videos written, with PyAV.

A frame is uint8 RGB (H, W, 3), turned upright as the file asks; numbers count from 0 in the order shown.
Only what is needed gets decoded: reading starts at the keyframe before a wanted frame.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from spact_lib.errors import UserError, unknown_name
from spact_lib.files import atomic_path

# Default quality of a codec, on its own scale (lower is better): crf 0..51 of libx264, qscale 1..31 of mpeg4.
CODECS = {"libx264": 18, "mpeg4": 3}
FORMATS = (".avi", ".mkv", ".mp4")

# swscale's fast paths round differently on different processors and let colours bleed; these flags do not.
SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class VideoInfo:
    """What a file really holds; width and height are those of the upright frames.

    ``container`` is FFmpeg's name of the format, ``declared_frames`` what the header claims (0: nothing), ``keyframes``
    the number of frames at which decoding can start (1 where the timestamps cannot be trusted).
    """

    frames: int
    fps: float
    width: int
    height: int
    codec: str
    duration_s: float
    container: str
    declared_frames: int
    keyframes: int


@dataclass(frozen=True, eq=False)
class _Index:
    info: VideoInfo
    pts: np.ndarray | None  # timestamps in the order shown; None if they cannot be trusted
    keyframes: np.ndarray  # numbers of the frames at which decoding can start, 0 among them


def probe(path: str | Path) -> VideoInfo:
    """Frame count (by reading every packet: the count in the header is often wrong), rate, size and codec.

    Raises UserError if the file is missing, unreadable, cut off or holds no video frame.
    """
    return _index(path).info


def frame_count(path: str | Path) -> int:
    """Number of frames of a video; 1 for an image."""
    return probe(path).frames


def read_frames(path: str | Path, indices: Sequence[int] | np.ndarray, size: int | None = None) -> np.ndarray:
    """Frames ``indices`` (any order, repeats allowed) as uint8 RGB (len(indices), H, W, 3).

    ``size`` is the shorter side in pixels after resizing (aspect kept); None: as stored. No frame is decoded
    twice, unless a seek fails. Raises UserError as ``probe`` does, and for an index that does not exist.
    """
    index = _index(path)
    numbers = np.asarray(indices, dtype=np.int64)
    for number in numbers[(numbers < 0) | (numbers >= index.info.frames)]:
        last = index.info.frames - 1
        raise UserError(f"frame {number} of {path} does not exist; choose from 0 to {last}")
    convert = Converter(index.info.width, index.info.height, size)
    out = np.empty((len(numbers), convert.height, convert.width, 3), np.uint8)
    for number, frame in _decode_only(path, index, np.unique(numbers)):
        out[numbers == number] = convert(frame)
    return out


def iter_frames(path: str | Path, size: int | None = None) -> Iterator[np.ndarray]:
    """All frames in order, one uint8 RGB (H, W, 3) at a time; ``size`` and errors as in ``read_frames``."""
    info = _index(path).info
    convert = Converter(info.width, info.height, size)
    with open_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        for frame in _decode(container, stream):
            yield convert(frame)


def letterbox(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames of any shapes in one array, to be looked at: each in the middle of the largest height and width, on white.

    Shape: n times uint8 (h, w, 3) -> uint8 (n, H, W, 3); frames of one shape stay as they are.
    """
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    out = np.full((len(frames), height, width, 3), 255, np.uint8)
    for place, frame in zip(out, frames, strict=True):
        h, w = frame.shape[:2]
        place[(height - h) // 2 :, (width - w) // 2 :][:h, :w] = frame
    return out


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    codec: str = "libx264",
    *,
    quality: int | None = None,
    keyframe_every: int = 12,
) -> Path:
    """Write uint8 RGB frames (H, W, 3), all of one size, to ``path`` (see ``FORMATS``): complete or absent.

    ``quality``: see ``CODECS``. An odd size is kept, but H.264 then stores 4:4:4, which some players lack.
    """
    if codec not in CODECS:
        raise unknown_name("video codec", codec, CODECS)
    if Path(path).suffix not in FORMATS:
        raise unknown_name(f"video format of {path}", Path(path).suffix, FORMATS)
    if not 0 < fps < 1000:
        raise UserError(f"{fps} frames per second is no rate for {path}; give one above 0 and below 1000")
    quality = CODECS[codec] if quality is None else quality
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f"there is no frame to write to {path}; give at least one")
    height, width = first.shape[:2]
    options = {"qmin": str(quality), "qmax": str(quality)}
    if codec == "libx264":
        # Without mbtree=0 about one run in 300 writes other bytes, even on one thread.
        options = {"crf": str(quality), "x264-params": "mbtree=0"}
    reformatter = VideoReformatter()
    try:
        # Bit-exact and one thread: neither versions, random ids nor the number of cores change the bytes.
        exact = {"fflags": "+bitexact"}
        with atomic_path(path) as temporary, av.open(f"file:{temporary}", "w", options=exact) as container:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv444p" if codec == "libx264" and (width % 2 or height % 2) else "yuv420p"
            stream.gop_size = keyframe_every
            stream.thread_count = 1
            for number, array in enumerate(chain([first], frames)):
                if array.shape != (height, width, 3) or array.dtype != np.uint8:
                    got = f"{array.dtype} {array.shape}"
                    raise UserError(f"frame {number} for {path} is {got}; give uint8 ({height}, {width}, 3)")
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
                frame = reformatter.reformat(frame, format=stream.pix_fmt, interpolation=SCALING, threads=1)
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise UserError(f"cannot write {path} with {codec}: {error.strerror}") from error
    return Path(path)


class Converter:
    """Turns decoded frames of one file into RGB arrays; keeps the scaler, which is costly to build.

    Args:
        width, height: of the upright frames.
        size: as in ``read_frames``.
    """

    def __init__(self, width: int, height: int, size: int | None) -> None:
        if size is not None and size < 1:
            raise UserError(f"size must be at least 1 pixel, not {size}")
        scale = 1 if size is None else size / min(width, height)
        self.width, self.height = round(width * scale), round(height * scale)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        turns = quarter_turns(frame)
        width, height = (self.height, self.width) if turns % 2 else (self.width, self.height)
        frame = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=SCALING, threads=1)
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(), turns))


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The open file and its first video stream; errors of FFmpeg within the block become a UserError."""
    try:
        # "file:", or a colon in the name would be taken for a protocol.
        with av.open(f"file:{path}") as container:
            # Cover art of a music file is a video stream of one picture.
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams or streams[0].codec_context is None:
                raise UserError(f"{path} holds no video that can be decoded; convert it to H.264")
            yield container, streams[0]
    except av.error.FFmpegError as error:
        raise UserError(f"cannot read {path} as a video or image ({error.strerror}); replace it") from error


def _decode(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """The only place that decodes, so that a test can count."""
    yield from container.decode(stream)


def _index(path: str | Path) -> _Index:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path and the root it is relative to")
    state = path.stat()
    return _read_index(str(path.absolute()), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _read_index(path: str, mtime_ns: int, size: int) -> _Index:
    # mtime_ns and size are only part of the key: a file that changed is read again.
    with open_video(path) as (container, stream):
        packets = [(p.pts, p.is_keyframe, p.is_discard, p.is_corrupt) for p in container.demux(stream) if p.size]
        trusted = stores_times(container, stream)
        refuse_cut(path, container, stream, len(packets), any(corrupt for *_, corrupt in packets))
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        codec, container_name, declared = stream.codec_context.name, container.format.name, stream.frames
    shown = [(pts, is_keyframe) for pts, is_keyframe, discard, _ in packets if not discard]
    times = [pts for pts, _ in shown]
    trusted = trusted and None not in times and len(set(times)) == len(times)
    with open_video(path) as (container, stream):
        decoded = _decode(container, stream)
        first = next(decoded, None)
        if first is None:
            raise UserError(f"{path} holds no video frame; replace it")
        count = len(shown) if trusted else 1 + sum(1 for _ in decoded)
    width, height = (first.height, first.width) if quarter_turns(first) % 2 else (first.width, first.height)
    pts, keyframes = None, np.zeros(1, np.int64)
    if trusted:
        pts = np.sort(np.array(times, np.int64))
        keyframes = np.union1d([0], np.searchsorted(pts, sorted(pts for pts, is_keyframe in shown if is_keyframe)))
    duration = count / fps if fps else 0.0
    info = VideoInfo(count, fps, width, height, codec, duration, container_name, declared, keyframes=len(keyframes))
    return _Index(info, pts, keyframes)


def stores_times(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """False for AVI with B-frames: it stores no presentation times, and the guessed ones are wrong."""
    return not (container.format.name == "avi" and stream.codec_context.has_b_frames)


def refuse_cut(
    path: str | Path, container: av.container.InputContainer, stream: av.VideoStream, packets: int, corrupt: bool
) -> None:
    """Raise UserError if fewer packets could be read than the file lists, or one of them was ``corrupt``."""
    is_mov = container.format.name.startswith("mov")
    if corrupt or (is_mov and packets < len(stream.index_entries)):
        raise UserError(f"{path} is cut off after {packets} packets; copy or download it again")


def _decode_only(path: str | Path, index: _Index, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) for the ascending numbers ``wanted``, seeking where that skips frames."""
    with open_video(path) as (container, stream):
        decoded, position = None, 0
        for done, target in enumerate(wanted):
            start = index.keyframes[np.searchsorted(index.keyframes, target, side="right") - 1]
            if decoded is None or start > position:
                if start > 0:
                    container.seek(int(index.pts[start]), stream=stream)
                decoded, position = _decode(container, stream), start
            for frame in decoded:
                number = position if index.pts is None else _number(index.pts, frame.pts)
                position = number + 1
                if number >= target:
                    break
            else:
                number = -1
            if number == target:
                yield int(target), frame
            elif index.pts is not None:
                # The seek landed too late or the timestamps lie: count frames from the start instead.
                linear = replace(index, pts=None, keyframes=np.zeros(1, np.int64))
                yield from _decode_only(path, linear, wanted[done:])
                return
            else:
                raise UserError(f"frame {target} of {path} cannot be decoded; replace the file")


def _number(pts: np.ndarray, time: int | None) -> int:
    """The number of the frame shown at ``time``; one past the end if there is none."""
    at = len(pts) if time is None else int(np.searchsorted(pts, time))
    return at if at < len(pts) and pts[at] == time else len(pts)


def quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns counterclockwise that put a frame upright."""
    return round(frame.rotation / 90) % 4
