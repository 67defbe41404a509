"""Frames carry their number as eight black or white bars, so that a wrong frame cannot pass for the right one."""

import csv
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from spact_lib import video
from spact_lib.errors import UserError
from spact_lib.video import Converter, frame_count, iter_frames, probe, read_frames, write_video

N = 60
COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128), (255, 255, 255), (0, 0, 0)]


def bars(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    bits = (number >> (np.arange(width) * 8 // width)) & 1
    return np.broadcast_to((bits * 255).astype(np.uint8)[None, :, None], (height, width, 3))


def number(frame: np.ndarray) -> int:
    width = frame.shape[1]
    centres = (np.arange(8) * 2 + 1) * width // 16
    return int(((frame[frame.shape[0] // 2, centres].mean(1) > 128) << np.arange(8)).sum())


def numbers(frames: np.ndarray | Iterator[np.ndarray]) -> list[int]:
    return [number(frame) for frame in frames]


def encode(
    path: Path,
    codec: str,
    options: dict[str, str] | None = None,
    *,
    b_frames: int = 0,
    keyframe_every: int = 12,
    rate: int = 25,
    frames: int = N,
    times: Callable[[int], int] = int,
    container: dict[str, str] | None = None,
    matrix: list[int] | None = None,
) -> Path:
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size, stream.max_b_frames = keyframe_every, b_frames
        if matrix:
            stream.set_display_matrix(matrix)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(bars(i)), format="rgb24")
            frame.pts = times(i)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


X264 = "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"
NO_SCENES = {"sc_threshold": "1000000000"}
CLIPS: dict[str, Callable[[Path], Path]] = {
    "h264 with B-frames": lambda d: encode(d / "a.mp4", "libx264", {"x264-params": X264}),
    "h264 with open groups": lambda d: encode(d / "a.mp4", "libx264", {"x264-params": X264 + ":open-gop=1"}),
    "h264 in mkv": lambda d: encode(d / "a.mkv", "libx264", {"x264-params": X264}),
    "h264 with B-frames in avi": lambda d: encode(d / "a.avi", "libx264", {"x264-params": X264}),
    "h264 without a container": lambda d: encode(d / "a.h264", "libx264", {"x264-params": X264}),
    "several frames at the same time": lambda d: encode(d / "a.mkv", "libx264", {"bf": "0"}, rate=2500),
    "h264 in a transport stream": lambda d: encode(d / "a.ts", "libx264", {"x264-params": X264}),
    "irregular times": lambda d: encode(d / "a.mp4", "libx264", times=lambda i: i * i + i),
    "one keyframe": lambda d: encode(d / "a.mp4", "mpeg4", NO_SCENES, keyframe_every=600),
    "mpeg4 in avi": lambda d: encode(d / "a.avi", "mpeg4", NO_SCENES),
    "mpeg4 with B-frames in avi": lambda d: encode(d / "a.avi", "mpeg4", b_frames=2),
    "mpeg2 program stream": lambda d: encode(d / "a.mpg", "mpeg2video", b_frames=2),
    "written by us": lambda d: write_video(d / "a.mp4", (bars(i) for i in range(N)), 25),
    "written by us as mpeg4": lambda d: write_video(d / "a.avi", (bars(i) for i in range(N)), 25, "mpeg4"),
}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One element per frame that leaves a decoder."""
    count: list[int] = []
    original = video._decode

    def counting(stream: av.VideoStream, packet: av.Packet | None) -> list[av.VideoFrame]:
        frames = original(stream, packet)
        count.extend([1] * len(frames))
        return frames

    monkeypatch.setattr(video, "_decode", counting)
    return count


@pytest.mark.parametrize("kind", CLIPS)
def test_the_right_frames_in_any_order_from_any_file(kind: str, tmp_path: Path) -> None:
    path = CLIPS[kind](tmp_path)
    info = probe(path)
    assert (info.frames, info.width, info.height) == (N, 64, 48)
    assert numbers(iter_frames(path)) == list(range(N))
    for wanted in ([59, 3, 3, 31, 0], [12], [11, 13, 12], [47, 24], range(N), []):
        assert numbers(read_frames(path, wanted)) == list(wanted)
    full = np.stack(list(iter_frames(path)))
    shuffled = np.random.default_rng(0).integers(0, N, 40)
    assert np.array_equal(read_frames(path, shuffled), full[shuffled])


def test_seeking_bounds_what_is_decoded(tmp_path: Path, decoded: list[int]) -> None:
    path = CLIPS["h264 with B-frames"](tmp_path)
    frame_count(path)
    for wanted, most in (([50], 3), ([48], 1), ([14, 50], 6), ([50, 50, 14], 6), ([59], 12), (range(N), N)):
        decoded.clear()
        read_frames(path, wanted)
        assert len(decoded) <= most, wanted


# Codec and container -> what x264 or the MPEG-4 encoder is told: three or two B-frames between others, one keyframe.
DISPOSABLE: dict[str, Callable[[Path], Path]] = {
    "h264": lambda d: encode(
        d / "a.mp4", "libx264", {"x264-params": X264 + ":b-pyramid=none:keyint=600:min-keyint=600"}
    ),
    "h264 whose B-frames refer to B-frames": lambda d: encode(
        d / "a.mp4", "libx264", {"x264-params": X264 + ":b-pyramid=normal:keyint=600:min-keyint=600"}
    ),
    "mpeg4": lambda d: encode(d / "a.mp4", "mpeg4", NO_SCENES, b_frames=2, keyframe_every=600),
    "mpeg2": lambda d: encode(d / "a.mkv", "mpeg2video", NO_SCENES, b_frames=2, keyframe_every=600),
}


@pytest.mark.parametrize("kind", DISPOSABLE)
def test_frames_that_no_other_refers_to_are_left_out(tmp_path: Path, decoded: list[int], kind: str) -> None:
    path = DISPOSABLE[kind](tmp_path)
    full = np.stack(list(iter_frames(path)))
    for wanted in ([57, 58, 59], [41], [8, 10, 12, 44]):
        decoded.clear()
        assert np.array_equal(read_frames(path, wanted), full[wanted])
        assert len(decoded) < 0.65 * (wanted[-1] + 1) + len(wanted)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_threads_change_no_frame(tmp_path: Path, codec: str) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (30, 30, 40, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    path = write_video(tmp_path / "a.mp4", frames, 25, codec)
    assert frames[0, ..., 0].size >= video.THREADED_PIXELS
    for wanted in (range(30), [29, 3, 17, 16]):
        assert np.array_equal(read_frames(path, wanted, 112, threads=3), read_frames(path, wanted, 112))
    assert np.array_equal(list(iter_frames(path, threads=2)), list(iter_frames(path)))


def test_indices_are_remembered_and_the_oldest_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_video(tmp_path / f"{n}.avi", [bars(i) for i in range(3 + n)], 25, "mpeg4") for n in range(3)]
    sought: list[str] = []
    original = video._read_index
    monkeypatch.setattr(video, "_read_index", lambda path: (sought.append(path.name), original(path))[1])
    monkeypatch.setattr(video, "INDEX_BYTES", 2100)  # of two
    with video.indices_forgotten():
        for n in (0, 1, 0, 2, 0, 1, 1, 2):
            assert frame_count(paths[n]) == 3 + n
    assert sought == ["0.avi", "1.avi", "2.avi", "1.avi", "2.avi"]


def test_evenly_spaced_times_take_no_room(tmp_path: Path) -> None:
    even, irregular = (video._index(CLIPS[kind](tmp_path)) for kind in ("h264 with B-frames", "irregular times"))
    assert even.pts == range(even.pts[0], even.pts[0] + N * even.pts.step, even.pts.step)
    assert even.nbytes < 1200 and irregular.nbytes > 8 * N and len(irregular.pts) == N


def test_one_keyframe_means_decoding_up_to_the_last_wanted_frame_once(tmp_path: Path, decoded: list[int]) -> None:
    path = CLIPS["one keyframe"](tmp_path)
    with av.open(str(path)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) == 1
    frame_count(path)
    decoded.clear()
    read_frames(path, [30, 7, 30])
    assert len(decoded) == 31


def test_iterating_decodes_as_it_goes(tmp_path: Path, decoded: list[int]) -> None:
    path = CLIPS["h264 with B-frames"](tmp_path)
    frame_count(path)
    decoded.clear()
    frames = iter_frames(path)
    assert number(next(frames)) == 0 and number(next(frames)) == 1
    assert len(decoded) == 2


def test_a_seek_that_lands_too_late_costs_time_but_not_the_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    path = CLIPS["h264 with B-frames"](tmp_path)
    index = video._index(path)
    late = np.where(index.keyframes == 24, 27, index.keyframes)  # 27 is no keyframe: the seek goes back to 24
    lying = replace(index, keyframes=late, pts=np.array(index.pts) + 1)
    monkeypatch.setattr(video, "_index", lambda _: lying)
    decoded.clear()
    assert numbers(read_frames(path, [25, 40])) == [25, 40]
    assert len(decoded) > 41  # the search for times that do not exist, then all from the start


def test_a_header_that_lies_about_the_count(tmp_path: Path) -> None:
    path = CLIPS["mpeg4 in avi"](tmp_path)
    content = bytearray(path.read_bytes())
    at = content.index(b"strh") + 8 + 32
    assert struct.unpack_from("<I", content, at) == (N,)
    struct.pack_into("<I", content, at, 7)
    path.write_bytes(content)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 7
    assert frame_count(path) == N


@pytest.mark.parametrize("codec", video.CODECS)
@pytest.mark.parametrize("suffix", video.FORMATS)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 65), (2, 2)])
def test_written_videos_keep_count_rate_size_and_colour(
    tmp_path: Path, codec: str, suffix: str, height: int, width: int
) -> None:
    frames = np.broadcast_to(np.array(COLOURS, np.uint8)[:, None, None], (len(COLOURS), height, width, 3))
    path = write_video(tmp_path / f"a{suffix}", frames, 29.97, codec)
    info = probe(path)
    assert (info.frames, info.height, info.width) == (len(COLOURS), height, width)
    assert info.fps == pytest.approx(29.97, abs=0.01) and info.duration_s == pytest.approx(0.2, abs=0.01)
    assert info.codec == {"libx264": "h264"}.get(codec, codec)
    assert np.abs(read_frames(path, range(len(COLOURS))).astype(int) - frames).max() <= 4
    again = write_video(tmp_path / f"b{suffix}", iter(frames), 29.97, codec)
    assert again.read_bytes() == path.read_bytes()


def test_quality_trades_size_for_fidelity(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)
    for codec, (good, poor) in {"libx264": (5, 45), "mpeg4": (1, 31)}.items():
        sizes, errors = [], []
        for quality in (good, poor):
            path = write_video(tmp_path / "a.mp4", noise, 25, codec, quality=quality)
            sizes.append(path.stat().st_size)
            errors.append(np.abs(read_frames(path, range(4)).astype(int) - noise).mean())
        assert sizes[0] > 2 * sizes[1] and errors[0] < errors[1]


def test_colours_of_high_definition_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt, stream.colorspace = 64, 48, "yuv420p", 1  # BT.709
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), COLOURS[0], np.uint8), format="rgb24")
        file.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        file.mux(stream.encode(None))
    assert np.abs(read_frames(tmp_path / "a.mp4", [0])[0, 24, 32] - np.array(COLOURS[0])).max() <= 3


def test_one_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [bars(77)], 25)
    assert frame_count(path) == 1
    assert numbers(read_frames(path, [0, 0])) == [77, 77]
    timeless = encode(tmp_path / "a.h264", "libx264", frames=1)
    assert numbers(read_frames(timeless, [0])) == [0]


@pytest.mark.parametrize(
    ("side", "shape"), [(24, (24, 32)), (48, (48, 64)), (33, (33, 44)), (96, (96, 128)), (1, (1, 1))]
)
def test_size_is_the_short_side(tmp_path: Path, side: int, shape: tuple[int, int]) -> None:
    path = CLIPS["written by us"](tmp_path)
    frames = read_frames(path, [5, 2], size=side)
    assert frames.shape == (2, *shape, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, [list(iter_frames(path, size=side))[i] for i in (5, 2)])
    if side > 8:
        assert numbers(frames) == [5, 2]


@pytest.mark.parametrize("format", ["yuv420p", "yuvj420p", "yuv444p"])
def test_frames_are_scaled_as_to_packed_rgb(format: str) -> None:
    rng = np.random.default_rng(0)
    for trial in range(40):
        width, height = (int(n) for n in rng.integers(16, 200, 2))
        frame = av.VideoFrame(width, height, format)
        for plane in frame.planes:
            plane.update(rng.bytes(plane.buffer_size))
        if trial % 2:
            frame.colorspace = 1
        short = min(width, height)
        for size in (short, max(1, short - 1), int(0.9 * short), int(rng.integers(1, short)), 2 * short):
            convert = Converter(width, height, size)
            expected = frame.reformat(convert.width, convert.height, "rgb24", interpolation=video.SCALING)
            assert np.array_equal(convert(frame), expected.to_ndarray()), (width, height, size)


def test_shrinking_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    small = read_frames(tmp_path / "a.png", [0], size=24)[0]
    assert np.abs(small[:, 2:-2].astype(int) - 128).max() < 12


# What a phone held upright writes: to be shown turned by 90 degrees clockwise; upside down; counterclockwise.
TURNS = {
    -1: [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30],
    2: [-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30],
    1: [0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30],
}


@pytest.mark.parametrize("turns", TURNS)
def test_turned_videos_are_read_upright(tmp_path: Path, turns: int) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", matrix=TURNS[turns])
    plain = encode(tmp_path / "b.mp4", "libx264")
    info = probe(path)
    assert (info.width, info.height) == ((64, 48) if turns == 2 else (48, 64))
    for size in (None, 24):
        expected = np.rot90(read_frames(plain, [37, 5], size), turns, axes=(1, 2))
        assert np.array_equal(read_frames(path, [37, 5], size), expected)
        assert np.array_equal(list(iter_frames(path, size))[37], expected[0])


# Of front cameras: to be shown as in a mirror, or standing on its head, or with rows as columns (both ways).
MIRRORS = {
    "left-right": ([-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30], lambda frames: frames[:, :, ::-1]),
    "upside down": ([65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30], lambda frames: frames[:, ::-1]),
    "transposed": ([0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30], lambda frames: frames.swapaxes(1, 2)),
    "the other way": ([0, -65536, 0, -65536, 0, 0, 0, 0, 1 << 30], lambda frames: frames[:, ::-1, ::-1].swapaxes(1, 2)),
}


@pytest.mark.parametrize("name", MIRRORS)
def test_mirrored_videos_are_read_as_they_are_shown(tmp_path: Path, name: str) -> None:
    matrix, expected = MIRRORS[name]
    frames = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    path, plain = tmp_path / "a.mp4", write_video(tmp_path / "b.mp4", frames, 25)
    with av.open(str(plain)) as source, av.open(str(path), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        stream.set_display_matrix(matrix)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    for size in (None, 48, 24):
        shown = expected(read_frames(plain, [4, 1], size))
        assert np.array_equal(read_frames(path, [4, 1], size), shown)
        assert np.array_equal(list(iter_frames(path, size))[4], shown[0])
    assert (probe(path).height, probe(path).width) == expected(frames).shape[1:3]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_as_their_exif_asks(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(stored).save(tmp_path / "a.jpg", quality=98, exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")))
    frames = read_frames(tmp_path / "a.jpg", [0])
    assert frames.shape == (1, *shown.shape) and np.abs(frames[0].astype(int) - shown).mean() < 2
    assert np.array_equal(next(iter_frames(tmp_path / "a.jpg")), frames[0])


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    for name, gray in (("a%d.png", 10), ("a1.png", 200), ("b*.png", 10), ("bc.png", 200)):
        Image.fromarray(np.full((8, 8, 3), gray, np.uint8)).save(tmp_path / name)
    for name in ("a%d.png", "b*.png"):
        assert (read_frames(tmp_path / name, [0]) == 10).all() and frame_count(tmp_path / name) == 1


@pytest.mark.parametrize("matrix", [[0] * 9, [0, 0, 0, 0, 0, 0, 0, 0, 1 << 30]])
def test_a_matrix_that_is_no_rotation_turns_nothing(tmp_path: Path, matrix: list[int]) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", matrix=matrix, frames=3)
    assert (probe(path).width, probe(path).height) == (64, 48) and numbers(read_frames(path, [2])) == [2]


def test_a_title_in_another_encoding_is_no_fault(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as file:
        file.metadata["title"] = "Cafe au lait"
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(bars(7)), format="rgb24")))
        file.mux(stream.encode(None))
    content = (tmp_path / "a.avi").read_bytes()
    assert b"Cafe" in content
    (tmp_path / "a.avi").write_bytes(content.replace(b"Cafe", b"Caf\xe9"))
    assert numbers(read_frames(tmp_path / "a.avi", [0])) == [7]


def test_mpeg4_of_a_rate_that_it_cannot_store_exactly(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [bars(i) for i in range(9)], 120_000 / 1001, "mpeg4")
    assert probe(path).fps == pytest.approx(119.88, abs=0.01) and numbers(iter_frames(path)) == list(range(9))


@pytest.mark.parametrize("name", ["a.png", "12:30 100%d.png", "a.jpg", "upright.jpg"])
def test_an_image_is_a_video_of_one_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ramp = np.linspace(0, 255, 37 * 53 * 3).reshape(37, 53, 3).astype(np.uint8)
    exif = Image.Exif()
    if name == "upright.jpg":
        exif[0x0112] = 6  # "turn by 90 degrees clockwise"
    Image.fromarray(ramp).save(tmp_path / name, exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(tmp_path / name)))
    info = probe(tmp_path / name)
    assert (info.frames, info.height, info.width) == (1, *expected.shape[:2])
    frames = read_frames(tmp_path / name, [0, 0])
    assert np.abs(frames.astype(int) - expected).max() <= (0 if name.endswith("png") else 3)
    with pytest.raises(UserError, match="frame 1 of .* does not exist"):
        read_frames(tmp_path / name, [1])
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(read_frames(name, [0, 0]), frames)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [bars(i) for i in range(5)], 25)
    assert frame_count(path) == 5
    write_video(path, [bars(i) for i in range(9)], 25)
    assert frame_count(path) == 9 and numbers(read_frames(path, [8])) == [8]


@pytest.mark.parametrize("index", [-1, N, 10**9])
def test_an_index_out_of_range_names_file_and_count(tmp_path: Path, index: int) -> None:
    path = CLIPS["written by us"](tmp_path)
    with pytest.raises(UserError, match=rf"frame {index} of .*a\.mp4 does not exist; choose from 0 to 59"):
        read_frames(path, [0, index])


def test_real_gesture_clips_have_the_listed_frames(shared_data: Path) -> None:
    folder = shared_data / "clips" / "gestures"
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27
    for row in rows:
        info = probe(folder / row["path"])
        listed = (int(row["frames"]), int(row["w"]), int(row["h"]), row["codec"])
        assert (info.frames, info.width, info.height, info.codec) == listed
        assert info.fps == pytest.approx(float(row["fps"]), abs=0.01)


REAL = ["gestures/PS7A2P2T1.avi", "misc/demo.mp4", "misc/demo_skeleton.mp4", "misc/demo_spatiotemporal_det.mp4"]
REAL += ["misc/test.avi", "misc/test.mp4", "misc/test_video_structuralize.mp4"]


@pytest.mark.parametrize("name", REAL)
def test_frames_of_real_clips_equal_a_plain_decode(shared_data: Path, name: str) -> None:
    path = shared_data / "clips" / name
    count = frame_count(path)
    wanted = np.random.default_rng(1).permutation(count)[:8]
    with av.open(str(path)) as container:
        plain = {
            i: frame.reformat(format="rgb24", interpolation=video.SCALING).to_ndarray() if i in wanted else None
            for i, frame in enumerate(container.decode(video=0))
        }
    assert count == len(plain)
    assert np.array_equal(read_frames(path, wanted), [plain[i] for i in wanted])


def test_frames_of_several_shapes_are_shown_whole_in_one_size() -> None:
    upright, across = np.full((6, 3, 3), 10, np.uint8), np.full((4, 5, 3), 20, np.uint8)
    both = video.letterbox([upright, across])
    assert both.shape == (2, 6, 5, 3)
    assert (both[0, :, 1:4] == 10).all() and (both[0, :, [0, 4]] == 255).all()
    assert (both[1, 1:5] == 20).all() and (both[1, [0, 5]] == 255).all()
    assert np.array_equal(video.letterbox([across, across]), np.stack([across, across]))
