"""Frames out of video and image files, and videos written, with PyAV.

A frame is uint8 RGB (H, W, 3), turned upright and mirrored as the file asks; numbers count from 0 in the order shown.
Only what is needed gets decoded: reading starts at the keyframe before a wanted frame, leaves out what no other frame
refers to, and ends with the last wanted one.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from threading import Lock

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from spact_lib.cut_videos import refuse_cut
from spact_lib.errors import UserError, unknown_name
from spact_lib.files import atomic_path
from spact_lib.orientation import mirrored, mirrored_picture, quarter_turns

# Default quality of a codec, on its own scale (lower is better): crf 0..51 of libx264, qscale 1..31 of mpeg4.
CODECS = {"libx264": 18, "mpeg4": 3}
FORMATS = (".avi", ".mkv", ".mp4")

# swscale's fast paths round differently on different processors and let colours bleed; these flags do not.
SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

# In these, a frame that is marked so (B-frames; nal_ref_idc 0) is never referred to. In HEVC a higher layer may.
HAS_DISPOSABLE = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
THREADED_PIXELS = 64_000  # smaller frames decode no faster on several threads
MAX_PIXELS = 2**26  # of a frame; 8K video has half of it. A header of a few bytes may promise any size
PLAYLISTS = ("concat", "dash", "hls", "imf", "sdp")  # text that makes FFmpeg open other files than the one given
INDEX_BYTES = 2**25  # kept of indices: of 30,000 videos of constant rate, whatever their lengths


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
    pts: range | np.ndarray | None  # timestamps in the order shown; None if they cannot be trusted
    keyframes: np.ndarray  # numbers of the frames at which decoding can start, 0 among them

    @property
    def nbytes(self) -> int:
        return 1000 + self.keyframes.nbytes + getattr(self.pts, "nbytes", 0)  # about


def probe(path: str | Path) -> VideoInfo:
    """Frame count (by reading every packet: the count in the header is often wrong), rate, size and codec.

    Raises UserError if the file is missing, unreadable, cut off or holds no video frame.
    """
    return _index(path).info


def frame_count(path: str | Path) -> int:
    """Number of frames of a video; 1 for an image."""
    return probe(path).frames


def read_frames(
    path: str | Path, indices: Sequence[int] | np.ndarray, size: int | None = None, threads: int = 1
) -> np.ndarray:
    """Frames ``indices`` (any order, repeats allowed) as uint8 RGB (len(indices), H, W, 3).

    ``size`` is the shorter side in pixels after resizing (aspect kept); None: as stored. ``threads``: of the decoder,
    at most; changes no frame. No frame is decoded twice, unless a seek fails. Raises UserError as ``probe`` does, for
    an index that does not exist, and for frames that ``size`` would make larger than ``MAX_PIXELS``.
    """
    index = _index(path)
    numbers = np.asarray(indices, dtype=np.int64)
    for number in numbers[(numbers < 0) | (numbers >= index.info.frames)]:
        last = index.info.frames - 1
        raise UserError(f"frame {number} of {path} does not exist; choose from 0 to {last}")
    convert = _converter(path, index.info, size)
    out = np.empty((len(numbers), convert.height, convert.width, 3), np.uint8)
    for number, frame in _decode_only(path, index, np.unique(numbers).tolist(), threads):
        out[numbers == number] = convert(frame)
    return out


def iter_frames(path: str | Path, size: int | None = None, threads: int = 1) -> Iterator[np.ndarray]:
    """All frames in order, one uint8 RGB (H, W, 3) at a time; the rest as in ``read_frames``."""
    info = _index(path).info
    convert = _converter(path, info, size)
    with open_video(path) as (container, stream):
        _use_threads(stream, threads)
        for frame in _decode_all(container, stream):
            yield convert(frame)


def _converter(path: str | Path, info: VideoInfo, size: int | None) -> "Converter":
    try:
        return Converter(info.width, info.height, size, mirrored_picture(path, info.container))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


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
    if not 0.001 <= fps < 1000:
        raise UserError(f"{fps} frames per second is no rate for {path}; give one from 0.001 to below 1000")
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
            rate = Fraction(fps).limit_denominator(1001)
            if codec == "mpeg4" and rate.numerator > 65535:  # it stores 16 bits
                rate = Fraction(fps).limit_denominator(int(65535 / fps))
            stream = container.add_stream(codec, rate=rate, options=options)
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
        flipped: what ``mirrored_picture`` says of the file.
    """

    def __init__(self, width: int, height: int, size: int | None, flipped: bool = False) -> None:
        if size is not None and size < 1:
            raise UserError(f"size must be at least 1 pixel, not {size}")
        scale = 1 if size is None else size / min(width, height)
        self.width, self.height = max(1, round(width * scale)), max(1, round(height * scale))
        if self.width * self.height > MAX_PIXELS:
            raise UserError(
                f"frames of {width}x{height} pixels would become {self.width}x{self.height} with a short side of "
                f"{size} pixels; crop them"
            )
        self._reformatter, self._flipped = VideoReformatter(), flipped

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        # Of this frame: the scaled one may have lost its matrix.
        turns, upside_down = quarter_turns(frame), self._flipped or mirrored(frame)
        width, height = (self.height, self.width) if turns % 2 else (self.width, self.height)
        # Where rows become fewer, or an even number stays, swscale makes the same numbers in planes, in half the time.
        as_is = (width, height) == (frame.width, frame.height) and height % 2 == 0
        planes = frame.format.name in ("yuv420p", "yuvj420p") and (as_is or 10 * height <= 9 * frame.height)
        format = "gbrp" if planes else "rgb24"
        frame = self._reformatter.reformat(frame, width, height, format, interpolation=SCALING, threads=1)
        array = frame.to_ndarray()
        return np.ascontiguousarray(np.rot90(array[::-1] if upside_down else array, turns))


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The open file and its first video stream; errors of FFmpeg within the block become a UserError."""
    try:
        # "file:", or a colon in the name would be taken for a protocol. Titles may be in any encoding.
        limit = {"max_pixels": str(MAX_PIXELS)}
        options = limit | {"pattern_type": "none"}  # or %d in the name of a picture would stand for numbers
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            if any(name in PLAYLISTS for name in container.format.name.split(",")):
                raise UserError(f"{path} is a playlist that names other files, not a video; give those files")
            streams = video_streams(container)
            if not streams:
                other = "only sound" if container.streams.audio else "no video"
                raise UserError(f"{path} holds {other}; give a video")
            if streams[0].codec_context is None:
                raise UserError(f"{path} holds a video that cannot be decoded here; convert it to H.264")
            streams[0].codec_context.options = limit
            yield container, streams[0]
    except av.error.FFmpegError as error:
        # What FFmpeg mostly says of too large a frame, and of little else.
        too_large = f" (a frame may have {MAX_PIXELS / 1e6:.0f} million pixels at most)"
        hint = too_large if isinstance(error, av.error.ArgumentError) else ""
        raise UserError(f"cannot read {path} as a video or image ({error.strerror}); replace it{hint}") from error


def video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Those that are videos: cover art of a music file is a stream of one picture."""
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def _use_threads(stream: av.VideoStream, threads: int) -> None:
    large = stream.codec_context.width * stream.codec_context.height >= THREADED_PIXELS
    stream.codec_context.thread_count = threads if large else 1
    stream.codec_context.thread_type = "AUTO"


def _decode(stream: av.VideoStream, packet: av.Packet | None) -> list[av.VideoFrame]:
    """What the decoder shows after a packet, or has left at the end (None). The only place that decodes."""
    return stream.codec_context.decode(packet)


def _decode_all(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        yield from _decode(stream, packet)


class _Indices:
    """Indices of files as they were at their last change: the latest used, up to ``INDEX_BYTES``."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int], _Index] = {}
        self._bytes, self._lock = 0, Lock()

    def __call__(self, path: Path) -> _Index:
        if not path.is_file():
            raise UserError(f"there is no file {path}; check the path and the root it is relative to")
        state = path.stat()
        key = (str(path.absolute()), state.st_mtime_ns, state.st_size)
        with self._lock:
            index = self._kept.pop(key, None)
            if index is not None:
                self._kept[key] = index  # the latest used are the last
                return index
        index = _read_index(path)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = index
                self._bytes += index.nbytes
            while self._bytes > INDEX_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return index


_indices = _Indices()


@contextmanager
def indices_forgotten() -> Iterator[None]:
    """Within: as before any file was read; for measurements of the first time."""
    global _indices
    remembered, _indices = _indices, _Indices()
    try:
        yield
    finally:
        _indices = remembered


def _index(path: str | Path) -> _Index:
    return _indices(Path(path))


def _read_index(path: Path) -> _Index:
    times, key_times, packets, discarded, corrupt, timeless, first = array("q"), array("q"), 0, 0, False, False, None
    with open_video(path) as (container, stream):
        trusted = stores_times(container, stream)
        _use_threads(stream, 1)
        for packet in container.demux(stream):
            if first is None:
                first = next(iter(_decode(stream, packet)), None)
            if not packet.size:
                continue
            packets += 1
            corrupt |= packet.is_corrupt
            if packet.is_discard:
                discarded += 1
            elif packet.pts is None:
                timeless = True
            else:
                times.append(packet.pts)
                if packet.is_keyframe:
                    key_times.append(packet.pts)
        refuse_cut(path, container, stream, packets, corrupt)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        codec, container_name, declared = stream.codec_context.name, container.format.name, stream.frames
    if first is None:
        raise UserError(f"{path} holds no video frame; replace it")
    width, height = (first.height, first.width) if quarter_turns(first) % 2 else (first.width, first.height)
    pts, keyframes, count = None, np.zeros(1, np.int64), packets - discarded
    shown = np.frombuffer(times, np.int64)
    shown.sort()  # in place: two hours have 180,000 of them
    if trusted and not timeless and len(shown) and (shown[1:] > shown[:-1]).all():
        keyframes = np.union1d([0], np.searchsorted(shown, np.frombuffer(key_times, np.int64)))
        pts = _as_range(shown)
    else:
        with open_video(path) as (container, stream):
            count = sum(1 for _ in _decode_all(container, stream))
    duration = count / fps if fps else 0.0
    info = VideoInfo(count, fps, width, height, codec, duration, container_name, declared, keyframes=len(keyframes))
    return _Index(info, pts, keyframes)


def _as_range(times: np.ndarray) -> range | np.ndarray:
    """The same numbers, as a range where they are evenly spaced: most videos then cost a kilobyte to remember."""
    step = int(times[1] - times[0]) if len(times) > 1 else 1
    if (times[1:] - times[:-1] == step).all():
        return range(int(times[0]), int(times[0]) + step * len(times), step)
    return times


def stores_times(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """False for AVI with B-frames: it stores no presentation times, and the guessed ones are wrong."""
    return not (container.format.name == "avi" and stream.codec_context.has_b_frames)


def _decode_only(
    path: str | Path, index: _Index, wanted: list[int], threads: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) for the ascending numbers ``wanted``, seeking where that skips frames."""
    with open_video(path) as (container, stream):
        _use_threads(stream, threads)
        missing = wanted
        if index.pts is not None:
            missing = []
            for start, numbers in _stretches(index, wanted):
                times = {index.pts[number]: number for number in numbers}
                if start:
                    container.seek(int(index.pts[start]), stream=stream)
                for frame in _decode_times(container, stream, set(times)):
                    if frame.pts in times:
                        yield times.pop(frame.pts), frame
                missing += times.values()
    if not missing:
        return
    # No timestamps, or the seek landed too late, or they lie: count frames from the start.
    with open_video(path) as (container, stream):
        _use_threads(stream, threads)
        left = set(missing)
        for number, frame in enumerate(_decode_all(container, stream)):
            if number in left:
                left.remove(number)
                yield number, frame
            if not left:
                return
    raise UserError(f"frame {min(left)} of {path} cannot be decoded; replace the file")


def _stretches(index: _Index, wanted: list[int]) -> Iterator[tuple[int, list[int]]]:
    """(keyframe to start from, numbers to decode on the way): a new one where seeking skips frames."""
    start, numbers = 0, []
    for number in wanted:
        keyframe = int(index.keyframes[np.searchsorted(index.keyframes, number, side="right") - 1])
        if keyframe > (numbers[-1] + 1 if numbers else 0):
            if numbers:
                yield start, numbers
            start, numbers = keyframe, []
        numbers.append(number)
    if numbers:
        yield start, numbers


def _decode_times(
    container: av.container.InputContainer, stream: av.VideoStream, times: set[int]
) -> Iterator[av.VideoFrame]:
    """Decode from here until all frames shown at ``times`` have come out, and of the others what those need."""
    context = stream.codec_context
    leave_out, left = context.name in HAS_DISPOSABLE, set(times)
    for packet in container.demux(stream):
        if leave_out:
            context.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
        yield from _decode(stream, packet)
        left.discard(packet.pts)
        if not left:
            # All that is wanted is in the decoder: have it out now, not after the packets that would push it out.
            yield from _decode(stream, None)
            return
