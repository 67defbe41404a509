"""Streams of frames with sound, odd times and odd shapes, through a function and back."""

import errno
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorTrc

from spact_lib.apps.anonymize import describe
from spact_lib.apps.transcode import _Output, survey, transcode
from spact_lib.errors import DiskError, UserError
from spact_lib.video import open_video, read_frames, write_video

N = 40
SECRETS = {"title": "Anna", "location": "+50.1+008.6/", "com.apple.quicktime.model": "Phone", "artist": "Anna"}
CLOCKWISE = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]  # what a phone held upright writes


def inverted(frames: np.ndarray) -> np.ndarray:
    return 255 - frames


def encode(
    path: Path,
    codec: str = "libx264",
    *,
    times: Callable[[int], int] = int,
    time_base: Fraction = Fraction(1, 25),
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv420p",
    sound: str = "",
    sound_rate: int = 48000,
    frames: int = N,
    matrix: list[int] | None = None,
    pixel: Fraction = Fraction(1),
    b_frames: int = 0,
    transfer: ColorTrc = ColorTrc.BT709,
) -> Path:
    """A dark left and a bright right half, brightness falling with the frame's number; a tone; who filmed it where."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"} if path.suffix == ".mp4" else {}) as file:
        file.metadata.update(SECRETS)
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio, context.max_b_frames = time_base, pixel, b_frames
        context.color_trc = transfer
        if matrix:
            stream.set_display_matrix(matrix)
        track = file.add_stream(sound, rate=sound_rate, layout="stereo") if sound else None
        for i in range(frames):
            array = np.full((size[1], size[0], 3), 40 + i, np.uint8)
            array[:, size[0] // 2 :] = 200 - i
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base, frame.color_trc = times(i), time_base, transfer
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        for start in range(0, int(times(frames - 1) * time_base * sound_rate) if track else 0, 4800):
            tone = (8000 * np.sin(np.arange(start, start + 4800) / 20)).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], format="s16", layout="stereo")
            samples.sample_rate, samples.pts, samples.time_base = sound_rate, start, Fraction(1, sound_rate)
            file.mux(track.encode(samples))
        if track:
            file.mux(track.encode(None))
    return path


def seconds(path: Path) -> list[float]:
    """When each frame is shown; the end of the last one."""
    with open_video(path) as (container, stream):
        shown = [(frame.pts * frame.time_base, frame.duration * frame.time_base) for frame in container.decode(stream)]
    return [float(at) for at, _ in shown] + [float(sum(shown[-1]))]


def streams(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.codec.canonical_name for stream in container.streams]


def sound(path: Path) -> list[tuple]:
    """Packets of the first sound stream. libx264 does not write the same bytes every time: 1 of 600 files was a byte
    longer."""
    with av.open(str(path)) as container:
        packets = [(packet.pts, packet.dts, bytes(packet)) for packet in container.demux(audio=0)]
    assert packets
    return packets


def test_variable_rate_rotation_and_pixel_shape_are_kept_and_nothing_else(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).integers(1000, 9000, N).cumsum().tolist()
    source = encode(
        tmp_path / "a.mp4", times=lambda i: steps[i] - steps[0], time_base=Fraction(1, 90000), sound="aac",
        matrix=CLOCKWISE, pixel=Fraction(4, 3),
    )  # fmt: skip
    content = source.read_bytes()
    assert b"Anna" in content and b"50.1" in content
    out = tmp_path / "b.mp4"
    result = transcode(source, out, inverted, comment="mine")
    assert (result.frames, result.size, result.released, result.audio) == (N, (48, 64), (48, 64), "removed")
    assert seconds(out)[:-1] == seconds(source)[:-1]
    assert seconds(out)[-1] == pytest.approx(seconds(source)[-1], abs=0.1)
    assert result.duration_s == pytest.approx(seconds(out)[-1], abs=0.1)
    assert survey(out).pixel == Fraction(3, 4)  # turned with the frame
    expected = 255 - read_frames(source, [0, N - 1])
    assert np.abs(read_frames(out, [0, N - 1]).astype(int) - expected).max() <= 12
    # What browsers need: H.264 in 4:2:0, the index in front of the frames.
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(out)) as container:
        assert [s.codec_context.name for s in container.streams] == ["h264"]
        assert container.streams[0].codec_context.pix_fmt == "yuv420p"
        kept = {
            key: value for key, value in container.metadata.items() if "brand" not in key and key != "minor_version"
        }
        assert kept == {"comment": "mine"}
        assert container.streams[0].metadata == {"language": "und", "handler_name": "VideoHandler"}
    assert not any(secret in content for secret in (b"Anna", b"50.1", b"Phone"))
    with_sound = transcode(source, tmp_path / "c.mp4", inverted, keep_audio=True)
    assert with_sound.audio == "aac copied" and streams(tmp_path / "c.mp4") == ["h264", "aac"]
    assert seconds(tmp_path / "c.mp4")[:-1] == seconds(source)[:-1]
    assert not any(secret in (tmp_path / "c.mp4").read_bytes() for secret in (b"Anna", b"50.1", b"Phone"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.avi", {"codec": "mpeg4", "b_frames": 2}),
        ("a.h264", {}),
        ("a.ts", {}),
        ("a.mkv", {"codec": "libx265", "pix_fmt": "yuv420p10le"}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
        ("a.mov", {"frames": 1}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_any_container_and_codec(tmp_path: Path, name: str, options: dict) -> None:
    source = encode(tmp_path / name, **options)
    result = transcode(source, tmp_path / "out.mp4", inverted)
    count = options.get("frames", N)
    assert result.frames == count
    times = seconds(tmp_path / "out.mp4")
    assert times == pytest.approx([i / 25 for i in range(count + 1)], abs=0.041)
    assert np.all(np.diff(times) > 0)
    last = read_frames(tmp_path / "out.mp4", [count - 1])[0].astype(int)
    expected = 255 - read_frames(source, [count - 1])[0]
    assert np.abs(last - expected).mean() <= 12  # a GIF dithers


@pytest.mark.parametrize(
    ("name", "sound", "done"),
    [
        ("a.mkv", "libopus", "opus copied"),
        ("a.avi", "libmp3lame", "mp3 copied"),
        ("a.ts", "aac", "aac copied"),
        ("a.ts", "ac3", "ac3 re-encoded"),
        ("a.mov", "pcm_s16le", "pcm_s16le re-encoded"),
    ],
)
def test_sound_is_kept_on_request(tmp_path: Path, name: str, sound: str, done: str) -> None:
    source = encode(tmp_path / name, sound=sound)
    out = tmp_path / "out.mp4"
    assert transcode(source, out, inverted, keep_audio=True).audio == done
    kept = done.split()[0] if done.endswith("copied") else "aac"
    assert streams(out) == ["h264", kept]
    with av.open(str(out)) as container:
        heard = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert heard == pytest.approx((N - 1) / 25, abs=0.1)
    assert transcode(source, out, inverted).audio == "removed" and streams(out) == ["h264"]


@pytest.mark.parametrize("size", [(65, 49), (3, 2), (1, 1), (400, 17)])
def test_any_size_becomes_an_even_one(tmp_path: Path, size: tuple[int, int]) -> None:
    source = encode(tmp_path / "a.mkv", "ffv1", size=size, pix_fmt="bgr0", frames=3)
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    result = transcode(source, tmp_path / "b.mp4", inverted, short_side=32)
    assert (result.size, result.released, min(result.processed)) == (size, even, 32)
    assert max(result.processed) == round(max(size) * 32 / min(size))
    result = transcode(source, tmp_path / "b.mp4", lambda frames: frames[:, ::4, ::4], short_side=32, keep_size=False)
    assert min(result.released) == 8 and survey(tmp_path / "b.mp4").width == result.released[0]


class Without:
    """An object, but for what else it is to be."""

    def __init__(self, real: object, **changes: object) -> None:
        self._real = real
        vars(self).update(changes)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_a_frame_that_lost_its_time_follows_on_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = encode(tmp_path / "a.mp4", times=lambda i: i * 3600, time_base=Fraction(1, 90000))

    def decode(packet: av.Packet) -> list[av.VideoFrame]:
        frames = packet.decode()
        for frame in frames:
            frame.pts = None if frame.pts in (0, 5 * 3600, 6 * 3600, (N - 1) * 3600) else frame.pts
        return frames

    def demux(container: av.container.InputContainer, *streams: object) -> Iterator[Without]:
        for packet in container.demux(*streams):
            yield Without(packet, decode=partial(decode, packet))

    @contextmanager
    def opened(path: Path) -> Iterator[tuple[Without, av.VideoStream]]:
        with open_video(path) as (container, stream):
            yield Without(container, demux=partial(demux, container)), stream

    monkeypatch.setattr("spact_lib.apps.transcode.open_video", opened)
    result = transcode(source, tmp_path / "out.mp4", inverted)
    assert seconds(tmp_path / "out.mp4") == pytest.approx([i / 25 for i in range(N + 1)])
    assert result.duration_s == pytest.approx(N / 25)


def test_a_packet_of_sound_without_a_time_is_heard_when_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio = _Output.write_audio

    def untimed(self: _Output, packet: av.Packet, *given: object) -> None:
        packet.pts = None
        write_audio(self, packet, *given)

    source = encode(tmp_path / "a.ts", sound="aac")
    transcode(source, tmp_path / "b.mp4", inverted, keep_audio=True)
    monkeypatch.setattr(_Output, "write_audio", untimed)
    transcode(source, tmp_path / "c.mp4", inverted, keep_audio=True)
    assert sound(tmp_path / "c.mp4") == sound(tmp_path / "b.mp4")


def test_where_the_clock_starts_again_the_next_frame_follows_on_the_last(tmp_path: Path) -> None:
    """As in recordings that were joined, and on DVDs."""
    whole = encode(tmp_path / "a.mpg", "mpeg2video", sound="mp2").read_bytes()
    (tmp_path / "joined.mpg").write_bytes(whole + whole)
    result = transcode(tmp_path / "joined.mpg", tmp_path / "b.mp4", inverted)
    steps = np.diff(seconds(tmp_path / "b.mp4"))
    assert result.frames == 2 * N and steps == pytest.approx(1 / 25, abs=1e-3)
    assert result.duration_s == pytest.approx(2 * N / 25, abs=1 / 25)
    with pytest.raises(UserError, match="joined.mpg start again on the way, and its sound .*leave out --keep-audio"):
        transcode(tmp_path / "joined.mpg", tmp_path / "c.mp4", inverted, keep_audio=True)
    assert not (tmp_path / "c.mp4").exists()


def test_slow_mp3_is_encoded_anew(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.avi", "mpeg4", sound="libmp3lame", sound_rate=8000)
    assert transcode(source, tmp_path / "b.mp4", inverted, keep_audio=True).audio == "mp3 re-encoded"
    assert streams(tmp_path / "b.mp4") == ["h264", "aac"]


def test_frames_too_large_for_the_output_are_refused_by_name(tmp_path: Path) -> None:
    wide = encode(tmp_path / "wide.mkv", "ffv1", size=(17000, 2), frames=1)
    with pytest.raises(UserError, match=r"wide.mkv would be released at 17000x2 pixels, and H.264 has at most 16384"):
        transcode(wide, tmp_path / "b.mp4", inverted)
    with pytest.raises(UserError, match=r"wide.mkv: frames of 17000x2 pixels would become"):
        transcode(wide, tmp_path / "b.mp4", inverted, short_side=224)


def test_a_clip_stored_in_portrait_keeps_size_and_times(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).integers(1000, 9000, N).cumsum().tolist()
    source = encode(
        tmp_path / "a.mp4", times=lambda i: steps[i] - steps[0], time_base=Fraction(1, 90000), size=(48, 80)
    )
    result = transcode(source, tmp_path / "b.mp4", inverted, short_side=24)
    assert (result.frames, result.size, result.processed, result.released) == (N, (48, 80), (24, 40), (48, 80))
    info = survey(tmp_path / "b.mp4")
    assert (info.width, info.height, info.pixel) == (48, 80, 1)
    assert seconds(tmp_path / "b.mp4")[:-1] == seconds(source)[:-1]
    dark = read_frames(tmp_path / "b.mp4", [0])[0].mean((0, 2))
    assert dark[:16] == pytest.approx(255 - 40, abs=12) and dark[-16:] == pytest.approx(255 - 200, abs=12)


LONG = """
import resource, sys
from pathlib import Path
import numpy as np
from spact_lib.apps.transcode import transcode
from spact_lib.video import write_video
folder = Path(sys.argv[1])
frames = (np.full((48, 64, 3), i % 250, np.uint8) for i in range(2400))
write_video(folder / "long.mp4", frames, 25)
write_video(folder / "short.mp4", (np.full((48, 64, 3), i, np.uint8) for i in range(200)), 25)
for name in ("short", "long"):
    transcode(folder / f"{name}.mp4", folder / f"{name}-out.mp4", lambda frames: 255 - frames)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LONG, str(tmp_path)], capture_output=True, text=True, check=True)
    short, long = map(int, done.stdout.split())
    assert long - short <= 6  # MB; the frames that the long one has more are 20 MB
    assert survey(tmp_path / "long-out.mp4").frames == 2400


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4")

    def stop(part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcode(source, tmp_path / "b.mp4", inverted, on_frames=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_is_no_fault_of_the_video(tmp_path: Path) -> None:
    """Neither where a frame is written, nor a packet of sound, nor what the encoder still held."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 96, 128, 3), dtype=np.uint8)
    for source, keep_audio in (
        (write_video(tmp_path / "a.mp4", noise, 25, quality=30), False),
        (write_video(tmp_path / "b.mp4", noise[:2], 25), False),
        (encode(tmp_path / "c.mov", sound="pcm_s16le"), True),
    ):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(DiskError, match="^cannot write .*out.mp4: File too large; make room"):
                transcode(source, tmp_path / "out.mp4", inverted, keep_audio=keep_audio)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "b.mp4", "c.mov"}


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_disk_that_was_full_for_a_moment_stops_everything_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Then the file can be closed, and the packet's error is the only one."""

    class Full:
        def __init__(self, container: av.container.OutputContainer) -> None:
            self.add_stream = container.add_stream

        def mux(self, packets: object) -> None:
            raise av.error.OSError(errno.ENOSPC, "No space left on device")

    method = "write" if kind == "video" else "write_audio"
    write = getattr(_Output, method)

    def full(self: _Output, *given: object) -> None:
        self._container = Full(self._container)
        write(self, *given)

    monkeypatch.setattr(_Output, method, full)
    source = encode(tmp_path / "a.mov", sound="pcm_s16le")
    with pytest.raises(DiskError, match="^cannot write .*out.mp4: No space left on device; make room"):
        transcode(source, tmp_path / "out.mp4", inverted, keep_audio=kind == "audio")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mov"]


def test_bad_input_is_refused_in_one_sentence(tmp_path: Path) -> None:
    cut = encode(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:-900])
    cut = encode(tmp_path / "cut.mkv", frames=100)
    cut.write_bytes(cut.read_bytes()[: len(cut.read_bytes()) // 2])
    with av.open(str(tmp_path / "sound.m4a"), "w") as file:
        track = file.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 48000, 0
        file.mux([*track.encode(silence), *track.encode(None)])
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ncut.mp4\n#EXT-X-ENDLIST\n")
    cut = encode(tmp_path / "cut.mxf", "mpeg2video", frames=100)
    cut.write_bytes(cut.read_bytes()[: 6 * len(cut.read_bytes()) // 10])
    joined = encode(tmp_path / "joined.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(joined + joined)
    names = {path.name for path in tmp_path.iterdir()}
    for name in (*sorted(names), "missing.mp4"):
        with pytest.raises(UserError) as caught:
            transcode(tmp_path / name, tmp_path / "out.mp4", inverted)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    source = encode(tmp_path / "good.mp4")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*out.mp4"):
        transcode(source, tmp_path / "file" / "out.mp4", inverted)
    assert {path.name for path in tmp_path.iterdir()} == names | {"good.mp4", "file"}


def test_an_flv_that_was_cut_is_refused(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.flv", frames=100)
    assert survey(whole).frames == 100
    content = whole.read_bytes()
    for share in (0.3, 0.5):
        (tmp_path / "cut.flv").write_bytes(content[: int(share * len(content))])
        with pytest.raises(UserError, match="cut.flv is cut off after"):
            survey(tmp_path / "cut.flv")
    (tmp_path / "cut.flv").write_bytes(content[: int(0.9 * len(content))])  # less than a second is no proof
    (said,) = survey(tmp_path / "cut.flv").notes
    assert re.fullmatch(r"ends 0\.[3-9] s before its header says: perhaps cut off", said)


def test_what_a_release_leaves_out_or_cannot_mend_is_said(tmp_path: Path) -> None:
    one = encode(tmp_path / "one.mkv")
    with av.open(str(one)) as a, av.open(str(one)) as b, av.open(str(tmp_path / "two.mkv"), "w") as file:
        inputs = {container: file.add_stream_from_template(container.streams.video[0]) for container in (a, b)}
        for container, stream in inputs.items():
            for packet in container.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    file.mux(packet)
    result = transcode(tmp_path / "two.mkv", tmp_path / "out.mp4", inverted)
    assert result.notes == ("1 further video stream left out",) and result.frames == N
    assert describe(result).endswith("; 1 further video stream left out")
    trembling = replace(result, flicker=result.change + 1)
    assert "(--steady lowers it)" in describe(trembling) and "--steady" not in describe(result)
    assert "--steady" not in describe(trembling, steady=True)
    lines = {"flags": "+ilme+ildct"}
    with av.open(str(tmp_path / "lines.mpg"), "w") as file:
        stream = file.add_stream("mpeg2video", rate=25, options=lines)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * i, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    (note,) = survey(tmp_path / "lines.mpg").notes
    assert note.startswith("interlaced: every frame holds lines of two moments") and survey(one).notes == ()


def test_hdr_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    for transfer, name in ((ColorTrc.SMPTE2084, "PQ"), (ColorTrc.ARIB_STD_B67, "HLG")):
        for codec, pix_fmt in (("libx264", "yuv420p"), ("ffv1", "yuv420p10le")):
            source = encode(tmp_path / f"{name}.mkv", codec, pix_fmt=pix_fmt, transfer=transfer, frames=2)
            with pytest.raises(UserError, match=rf"{name}.mkv is HDR \({name}\); convert it to SDR first: ffmpeg -i "):
                survey(source)
    assert survey(encode(tmp_path / "sdr.mkv", "ffv1", pix_fmt="yuv420p10le", frames=2)).frames == 2


REAL = ["gestures/PS7A2P2T1.avi", "misc/demo.mp4", "misc/demo_spatiotemporal_det.mp4", "misc/test.avi"]


@pytest.mark.parametrize("name", REAL)
def test_real_clips_keep_count_and_times(shared_data: Path, tmp_path: Path, name: str) -> None:
    source, out = shared_data / "clips" / name, tmp_path / "out.mp4"
    result = transcode(source, out, inverted, short_side=32)
    info, made = survey(source), survey(out)
    assert result.frames == info.frames == made.frames and made.pixel == info.pixel
    assert (made.width, made.height) == (info.width, info.height)
    if info.timed:
        assert seconds(out)[:-1] == pytest.approx([at - seconds(source)[0] for at in seconds(source)[:-1]], abs=1e-3)
    assert seconds(out)[-1] == pytest.approx(info.frames / float(info.rate), abs=1 / float(info.rate))
