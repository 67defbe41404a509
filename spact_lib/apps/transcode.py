"""One video through a function of frames, as a stream: constant memory, timestamps kept, H.264 MP4 out.

Nothing of the input reaches the output but what the function returns, the times at which it is shown and, on request,
the sound: no titles, places, devices, dates, chapters, subtitles or telemetry.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from spact_lib.cut_videos import refuse_cut
from spact_lib.errors import UserError
from spact_lib.files import atomic_path, disk_errors
from spact_lib.orientation import mirrored_picture, quarter_turns
from spact_lib.video import (
    CODECS,
    SCALING,
    Converter,
    open_video,
    stores_times,
    video_streams,
)

COPIED_AUDIO = ("aac", "flac", "mp3", "opus")  # browsers play these in MP4; anything else is re-encoded as AAC
BATCH_PIXELS, BATCH_FRAMES = 2**18, 32  # at once through the function: bounds its memory at any size
UNKNOWN_RATE = Fraction(25)
HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
# Tone mapping needs zimg, which PyAV's FFmpeg is built without.
TO_SDR = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,"
    "format=yuv420p"
)
MP3_RATE = 16000  # MP4 holds no slower MP3
LARGEST_SIDE = 16384  # of H.264 as x264 writes it
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)

CLOCK = "the times of {} start again on the way, and its sound cannot be kept with them; leave out --keep-audio"

Frames = np.ndarray  # uint8 RGB (n, h, w, 3)


@dataclass(frozen=True)
class Survey:
    """What a video holds, found by one pass over its packets that keeps none of them.

    ``width`` and ``height`` are those of the upright frames, ``pixel`` is the shape of their pixels (width / height).
    ``timed``: its timestamps can be used; ``start``: the first one, in ``time_base``. ``flipped``: as ``Converter`` has
    it. ``notes``: what somebody should know of the release, for readers.
    """

    frames: int
    width: int
    height: int
    pixel: Fraction
    rate: Fraction
    timed: bool
    time_base: Fraction
    start: int
    audio: tuple[str, ...]
    flipped: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What ``transcode`` did. Sizes are (width, height); flicker and change in grey levels (see ``flicker``); notes as
    in ``Survey``."""

    frames: int
    duration_s: float
    size: tuple[int, int]
    processed: tuple[int, int]
    released: tuple[int, int]
    seconds: float
    method_seconds: float
    flicker: float
    change: float
    audio: str
    notes: tuple[str, ...]


def survey(path: Path, check: Callable[[], None] = lambda: None) -> Survey:
    """Read all packets of a video and decode its first frame; ``check`` is called on the way and may raise to stop.

    Raises:
        UserError: it is missing, unreadable, cut off, without a video frame, HDR, or a playlist.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    with open_video(path) as (container, stream):
        frames = packets = 0
        timed, corrupt, start, end = stores_times(container, stream), False, None, Fraction(0)
        for packet in container.demux():
            check()
            if not packet.size:
                continue
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream.index != stream.index:
                continue
            packets += 1
            corrupt |= packet.is_corrupt
            if packet.is_discard:
                continue
            frames += 1
            timed &= packet.pts is not None
            if timed:
                start = packet.pts if start is None else min(start, packet.pts)
        # These headers say how long the file was; elsewhere FFmpeg estimates it from what is there.
        promised = container.duration or 0 if container.format.name.startswith(("matroska", "mxf", "flv")) else 0
        missing = float(promised / av.time_base - end)
        refuse_cut(path, container, stream, packets, corrupt or missing > 1)
        rate = stream.average_rate or stream.guessed_rate or UNKNOWN_RATE
        time_base = stream.time_base if timed else 1 / rate
        pixel = stream.sample_aspect_ratio or Fraction(1)
        audio = tuple(s.codec_context.name if s.codec_context else "" for s in container.streams.audio)
        flipped = mirrored_picture(path, container.format.name)
        further = len(video_streams(container)) - 1
        notes = [f"{further} further video stream{'s' * (further > 1)} left out"] if further else []
        if missing > max(0.1, 3 / rate):
            notes.append(f"ends {missing:.1f} s before its header says: perhaps cut off")
    with open_video(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise UserError(f"{path} holds no video frame; replace it")
        if first.color_trc in HDR:  # taken for SDR, its colours would be washed out
            raise UserError(
                f"{path} is HDR ({HDR[first.color_trc]}); convert it to SDR first: ffmpeg -i INPUT -vf {TO_SDR} SDR.mp4"
            )
        width, height = first.width, first.height
        if quarter_turns(first) % 2:
            width, height, pixel = height, width, 1 / pixel
        if first.interlaced_frame:
            notes.append("interlaced: every frame holds lines of two moments, and so does its release")
    start = start if timed else 0
    return Survey(frames, width, height, pixel, rate, timed, time_base, start, audio, flipped, tuple(notes))


def transcode(
    source: Path,
    target: Path,
    method: Callable[[Frames], Frames],
    *,
    short_side: int | None = None,
    keep_size: bool = True,
    keep_audio: bool = False,
    steady: bool = False,
    comment: str = "",
    threads: int = 1,
    on_frames: Callable[[float], None] = lambda part: None,
    check: Callable[[], None] = lambda: None,
) -> Result:
    """Write ``source``, every frame of it through ``method``, to the MP4 file ``target``: complete or absent.

    Args:
        method: uint8 RGB (n, h, w, 3) -> uint8 RGB (n, h', w', 3), h' and w' for all n the same.
        short_side: pixels that frames are resized to before ``method``, aspect kept; None: as stored.
        keep_size: enlarge what ``method`` returns to the size of the input (adding no information); else release it
            as it is. Either way an odd side grows by one pixel: players need even ones.
        keep_audio: copy the sound where browsers play its codec in MP4, else re-encode it as AAC.
        steady: let ``Steady`` follow on ``method``.
        comment: the only metadata of the output.
        threads: of the decoder and of the encoder.
        on_frames: called after every batch with the part of the video in it, between 0 and 1; may raise to stop.
        check: as in ``survey``.

    Raises:
        UserError: as ``survey``; the target cannot be written; the sound cannot be decoded.
    """
    began, method_seconds, done = time.perf_counter(), 0.0, 0
    info = survey(source, check)
    try:
        convert = Converter(info.width, info.height, short_side, info.flipped)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    blank = np.zeros((1, convert.height, convert.width, 3), np.uint8)
    processed = method(blank).shape[2:0:-1]
    width, height = (info.width, info.height) if keep_size else processed
    released = (width + width % 2, height + height % 2)
    if max(released) > LARGEST_SIDE:
        raise UserError(
            f"{source} would be released at {released[0]}x{released[1]} pixels, and H.264 has at most {LARGEST_SIDE} "
            "on a side; release it smaller (--size processed, --short-side)"
        )
    size_of_batch = max(1, min(BATCH_FRAMES, BATCH_PIXELS // (convert.width * convert.height)))
    changes, last, end, follow = _Changes(), -1, 0, Steady() if steady else None
    usual, restarted = round(1 / info.rate / info.time_base), 0
    with _output(target, info, released, comment, threads) as output, open_video(source) as (container, stream):
        stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
        tracks = container.streams.audio if keep_audio else ()
        sound = ", ".join(output.add_audio(track, source) for track in tracks) or ("removed" if info.audio else "none")
        # The first moment of whatever is kept becomes 0, as players show it.
        starts = [track.start_time * track.time_base for track in tracks if track.start_time is not None]
        origin = min([info.start * info.time_base, *starts])

        def release(pending: list[tuple[np.ndarray, int, int]]) -> None:
            nonlocal method_seconds, done
            raw = np.stack([frame for frame, _, _ in pending])
            start = time.perf_counter()
            out = method(raw)
            method_seconds += time.perf_counter() - start
            out = follow(out) if follow else out
            changes.add(raw, out)
            for frame, (_, pts, shown) in zip(out, pending, strict=True):
                output.write(frame, pts, shown)
            done += len(pending)
            on_frames(len(pending) / info.frames)

        pending: list[tuple[np.ndarray, int, int]] = []
        for packet in container.demux(stream, *tracks):
            if packet.stream.type == "audio":
                output.write_audio(packet, origin, source)
                continue
            for frame in packet.decode():
                at, duration = end, usual  # a decoder may lose a time: then the frame follows on the one before it
                if info.timed and frame.pts is not None:
                    at, duration = round(frame.pts - origin / info.time_base), frame.duration or usual
                    if at + restarted < last - usual:  # the clock starts again, as where two recordings were joined
                        if tracks:
                            raise UserError(CLOCK.format(source))
                        restarted = end - at
                    at += restarted
                last = max(at, last + 1)  # encoders refuse times that do not increase
                end = last + duration
                pending.append((convert(frame), last, duration))
                if len(pending) == size_of_batch:
                    release(pending)
                    pending = []
        if pending:
            release(pending)
    return Result(
        frames=done,
        duration_s=float(end * info.time_base),
        size=(info.width, info.height),
        processed=processed,
        released=released,
        seconds=time.perf_counter() - began,
        method_seconds=method_seconds,
        flicker=changes.flicker,
        change=changes.change,
        audio=sound,
        notes=info.notes,
    )


def flicker(raw: Frames, released: Frames) -> tuple[float, float]:
    """How much a video trembles that did not tremble before, and how much it moved before.

    The first is the mean over pixels, channels and pairs of neighbouring frames of max(0, |o_t - o_(t-1)| -
    |i_t - i_(t-1)|), i the input and o the output; the second that of |i_t - i_(t-1)|; in grey levels of 255. Motion
    of the input explains as much change of the output at the same pixel, and no more: an unchanged or a still output
    has flicker 0. (Ours. The warping error of Lai et al., ECCV 2018, needs an optical flow, which noise-like
    anonymized frames do not have.)

    Args:
        raw, released: uint8 (n, h, w, 3), n at least 2; ``raw`` is resized to the size of ``released``.
    """
    if raw.shape != released.shape:
        # Imported here: torch takes seconds to import, and only methods that shrink need it.
        import torch
        from torchvision.transforms.v2 import functional as TF

        x = torch.from_numpy(raw).permute(0, 3, 1, 2).float()  # (n, h, w, 3) -> (n, 3, h, w)
        x = TF.resize(x, list(released.shape[1:3]), antialias=True).round().byte()
        raw = x.permute(0, 2, 3, 1).numpy()  # (n, 3, h, w) -> (n, h, w, 3)
    before, after = (np.abs(np.diff(frames.astype(np.int16), axis=0)) for frames in (raw, released))
    return float(np.maximum(after - before, 0).mean()), float(before.mean())


class Steady:
    """Less flicker in a stream of batches, by one frame of memory: an average over time of what changes little.

    o'_t = o'_(t-1) + g (o_t - o'_(t-1)) with g = |o_t - o'_(t-1)| / ``LIMIT`` (the largest of the channels), at least
    ``GAIN`` and at most 1: trembling is averaged away, motion and cuts pass. It looks at released frames only, never at
    the input, so the video tells nothing that it did not tell before; but one frame of it holds something of those
    before it, and the method was judged without it. (Ours.)
    """

    GAIN, LIMIT = 0.25, 128.0

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def __call__(self, frames: Frames) -> Frames:
        out = frames.astype(np.float32)
        for frame in out:
            if self._last is not None:
                change = frame - self._last
                gain = np.clip(np.abs(change).max(axis=-1, keepdims=True) / self.LIMIT, self.GAIN, 1)
                frame[:] = self._last + gain * change
            self._last = frame
        return out.round().astype(np.uint8)


class _Changes:
    """``flicker`` of a stream of batches."""

    def __init__(self) -> None:
        self.flicker, self.change, self._pairs, self._last = 0.0, 0.0, 0, None

    def add(self, raw: Frames, released: Frames) -> None:
        if self._last is not None:
            raw, released = (np.concatenate(both) for both in zip(self._last, (raw, released), strict=True))
        self._last = raw[-1:], released[-1:]
        if pairs := len(raw) - 1:
            self._pairs += pairs
            new, share = flicker(raw, released), pairs / self._pairs
            self.flicker += share * (new[0] - self.flicker)
            self.change += share * (new[1] - self.change)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        with disk_errors(path):  # a full disk is no fault of this video
            yield
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another place or name") from error


@contextmanager
def _output(path: Path, info: Survey, size: tuple[int, int], comment: str, threads: int) -> Iterator["_Output"]:
    """An H.264 MP4 that browsers play: yuv420p, BT.709, the index in front. Errors within are those of writing."""
    # Bit-exact: the file names neither the version of the muxer nor a time.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with _writing(path), atomic_path(path) as temporary:
        with av.open(f"file:{temporary}", "w", format="mp4", options=options) as container:
            container.metadata["comment"] = comment
            x264 = {"crf": str(CODECS["libx264"]), "preset": "veryfast"}
            stream = container.add_stream("libx264", rate=info.rate, options=x264)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            context = stream.codec_context
            context.thread_count, context.time_base = threads, info.time_base
            context.sample_aspect_ratio = info.pixel
            context.flags |= Flags.frame_duration  # else the last frame lasts as long as the one before it
            context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
            context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            output = _Output(path, container, stream)
            yield output
            output.finish()


class _Output:
    def __init__(self, path: Path, container: av.container.OutputContainer, stream: av.VideoStream) -> None:
        self._path, self._container, self._stream = path, container, stream
        self._copied: dict[int, AudioStream] = {}  # by the number of the stream in the input
        self._encoded: dict[int, AudioStream] = {}
        self._heard: dict[int, Fraction] = {}  # seconds of each encoded track up to now
        self._clock: dict[int, Fraction] = {}  # where each track of the input is
        self._reformatter = VideoReformatter()

    def write(self, array: np.ndarray, pts: int, duration: int) -> None:
        """Scale and encode one uint8 RGB frame (h, w, 3), shown from ``pts`` on, in the time base of the survey."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        frame = self._reformatter.reformat(
            frame, self._stream.width, self._stream.height, "yuv420p", dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG, interpolation=SCALING, threads=1,
        )  # fmt: skip
        frame.pts, frame.duration, frame.time_base = pts, duration, self._stream.codec_context.time_base
        with _writing(self._path):
            self._container.mux(self._stream.encode(frame))

    def add_audio(self, track: AudioStream, source: Path) -> str:
        """Add a track for one of the input; what will be done with it."""
        if track.codec_context is None:
            raise UserError(f"the sound of {source} cannot be decoded; leave out --keep-audio")
        name = track.codec_context.codec.canonical_name
        if name in COPIED_AUDIO and (name != "mp3" or track.codec_context.sample_rate >= MP3_RATE):
            copy = self._copied[track.index] = self._container.add_stream_from_template(track)
            copy.metadata.clear()  # a title, a language, a date
            return f"{name} copied"
        layout = "mono" if track.codec_context.channels == 1 else "stereo"
        rate = track.codec_context.sample_rate
        rate = rate if rate in AAC_RATES else 48000
        self._encoded[track.index] = self._container.add_stream("aac", rate=rate, layout=layout)
        return f"{name} re-encoded"

    def write_audio(self, packet: av.Packet, origin: Fraction, source: Path) -> None:
        """Copy or re-encode a packet of the input, ``origin`` seconds earlier."""
        number = packet.stream.index
        if packet.dts is not None:
            now = packet.dts * packet.time_base
            if now < self._clock.get(number, now) - 1:
                raise UserError(CLOCK.format(source))
            self._clock[number] = now
        if number in self._encoded:
            for frame in packet.decode():
                # Times that are guessed (AVI) go back and forth; the encoder takes only increasing ones.
                heard = self._heard.get(number, Fraction(0))
                start = heard if frame.pts is None else max(heard, frame.pts * frame.time_base - origin)
                frame.time_base = Fraction(1, frame.sample_rate)
                frame.pts = round(start * frame.sample_rate)
                self._heard[number] = start + Fraction(frame.samples, frame.sample_rate)
                with _writing(self._path):
                    self._container.mux(self._encoded[number].encode(frame))
        elif packet.dts is not None:  # the empty packet at the end has none
            shift = round(origin / packet.time_base)
            shown = packet.dts if packet.pts is None else packet.pts  # sound is heard in the order it is stored
            packet.pts, packet.dts = shown - shift, packet.dts - shift
            packet.stream = self._copied[number]
            with _writing(self._path):
                self._container.mux(packet)

    def finish(self) -> None:
        """Write what the encoders still hold."""
        for stream in (self._stream, *self._encoded.values()):
            self._container.mux(stream.encode(None))
