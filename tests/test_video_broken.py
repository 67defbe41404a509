"""Videos that are cut, damaged or none at all: refused in one sentence; and what cannot be written."""

import re
import struct
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from test_video import CLIPS, N, bars, encode

from spact_lib import cut_videos
from spact_lib.errors import UserError
from spact_lib.video import frame_count, iter_frames, probe, read_frames, write_video


def cut(path: Path, part: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    return path


def text_file(folder: Path) -> Path:
    (folder / "a.mp4").write_text("not a video\n" * 100)
    return folder / "a.mp4"


def audio(folder: Path) -> Path:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    return folder / "a.wav"


def audio_with_cover(folder: Path) -> Path:
    Image.new("RGB", (8, 8)).save(folder / "cover.jpg")
    cover = b"\0image/jpeg\0\3\0" + (folder / "cover.jpg").read_bytes()
    frame = b"APIC" + struct.pack(">I", len(cover)) + b"\0\0" + cover
    length = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    with av.open(str(folder / "plain.mp3"), "w", options={"id3v2_version": "0"}) as file:
        stream = file.add_stream("libmp3lame", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    (folder / "a.mp3").write_bytes(b"ID3\3\0\0" + length + frame + (folder / "plain.mp3").read_bytes())
    return folder / "a.mp3"


def without_frames(folder: Path) -> Path:
    with av.open(str(folder / "a.avi"), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.start_encoding()
    return folder / "a.avi"


def damaged(folder: Path) -> Path:
    path = CLIPS["written by us"](folder)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    end = content.index(b"moov")
    content[start + 4 : end - 4] = np.random.default_rng(0).bytes(end - start - 8)
    path.write_bytes(content)
    return path


FAST = {"movflags": "+faststart"}
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda d: d / "a.mp4", "there is no file .*a.mp4"),
    "folder": (lambda d: d, "there is no file"),
    "empty": (lambda d: cut(text_file(d), 0), "cannot read .*a.mp4"),
    "text": (text_file, "cannot read .*a.mp4 as a video or image"),
    "index lost": (lambda d: cut(CLIPS["h264 with B-frames"](d), 0.9), "cannot read .*a.mp4"),
    "end lost": (lambda d: cut(encode(d / "a.mp4", "libx264", container=FAST), 0.9), "a.mp4 is cut off after"),
    "avi cut": (lambda d: cut(CLIPS["mpeg4 with B-frames in avi"](d), 0.85), "a.avi is cut off after"),
    "image cut": (lambda d: cut(bars_image(d), 0.5), "cannot read .*a.png"),
    "too large": (lambda d: large_image(d), r"cannot read .*a.png .*a frame may have 67 million pixels at most"),
    "audio only": (audio, "a.wav holds only sound; give a video"),
    "audio with a cover": (audio_with_cover, "a.mp3 holds only sound; give a video"),
    "no frames": (without_frames, "a.avi"),
    "damaged": (damaged, "a.mp4"),
}


def large_image(folder: Path) -> Path:
    Image.new("1", (8200, 8200)).save(folder / "a.png")
    return folder / "a.png"


def bars_image(folder: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    return folder / "a.png"


@pytest.mark.parametrize("kind", BROKEN)
def test_files_that_are_no_video_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    make, message = BROKEN[kind]
    path = make(tmp_path)
    for use in (lambda: read_frames(path, range(frame_count(path))), lambda: list(iter_frames(path))):
        with pytest.raises(UserError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_cut_between_two_packets_is_noticed(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", container=FAST)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = packets[N // 2]
    path.write_bytes(path.read_bytes()[: position + size])
    with pytest.raises(UserError, match=f"is cut off after {N // 2 + 1} packets"):
        probe(path)


@pytest.mark.parametrize(
    ("name", "frames", "fps", "codec", "message"),
    [
        ("a.mp4", [bars(0)], 25, "h265", "video codec 'h265'.*libx264, mpeg4"),
        ("a.gif", [bars(0)], 25, "mpeg4", r"'\.gif'.*\.avi, \.mkv, \.mp4"),
        ("a.mp4", [bars(0)], 0, "mpeg4", "0 frames per second"),
        ("a.mp4", [bars(0)], float("nan"), "mpeg4", "nan frames per second"),
        ("a.mp4", [], 25, "mpeg4", "no frame to write to .*a.mp4"),
        ("a.mp4", [bars(0), bars(1)[:24]], 25, "mpeg4", r"frame 1 for .* \(24, 64, 3\); give uint8 \(48, 64, 3\)"),
        ("a.mp4", [bars(0), bars(1) / 255], 25, "libx264", "frame 1 for .*float64"),
        ("a.mp4", [bars(0)[..., 0]], 25, "mpeg4", "frame 0 for"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(
    tmp_path: Path, name: str, frames: list[np.ndarray], fps: float, codec: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_video(tmp_path / name, frames, fps, codec)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_among_the_frames_leaves_no_file(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield bars(0)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_video(tmp_path / "a.mp4", frames(), 25)
    assert list(tmp_path.iterdir()) == []


def test_a_size_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="size must be at least 1"):
        read_frames(bars_image(tmp_path), [0], size=0)


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_matroska_file_that_was_cut_is_refused_wherever_that_was(tmp_path: Path, suffix: str) -> None:
    whole = encode(tmp_path / f"a{suffix}", "libvpx" if suffix == ".webm" else "libx264")
    assert frame_count(whole) == N
    content = whole.read_bytes()
    with pytest.raises(UserError, match=f"a{suffix} is cut off after {N} packets"):  # its index alone
        probe(cut(whole, (len(content) - 1) / len(content)))
    for end in range(len(content) // 2, len(content), len(content) // 20):
        (tmp_path / f"cut{suffix}").write_bytes(content[:end])
        with pytest.raises(UserError, match=f"cut{suffix} is cut off after|cannot read .*cut{suffix}"):
            probe(tmp_path / f"cut{suffix}")
    segment = content.index(b"\x18S\x80g") + 4  # a live recording does not know its size
    live = content[:segment] + b"\x01" + b"\xff" * 7 + content[segment + 8 :]
    void = content[: segment - 4] + b"\xec\x83abc" + content[segment - 4 :]
    headless = content[:4] + b"\x01" + b"\xff" * 7 + content[5:]  # FFmpeg reads it nevertheless
    for whole_ones in (live, void, headless):
        whole.write_bytes(whole_ones)
        assert frame_count(whole) == N
    assert not cut_videos._segment_is_cut(whole)
    whole.write_bytes(void[:-1])
    assert cut_videos._segment_is_cut(whole)


def test_an_avi_that_was_cut_between_two_frames_is_refused(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.avi", [bars(i) for i in range(40)], 25, "mpeg4")
    content = whole.read_bytes()
    first, end = content.index(b"movi"), content.index(b"idx1")
    begins = [first + chunk.start() for chunk in re.finditer(b"00dc", content[first:end])]
    assert len(begins) == 40
    (tmp_path / "cut.avi").write_bytes(content[: begins[30]])
    with pytest.raises(UserError, match=r"cut.avi is cut off after 30 packets; copy or download it again"):
        probe(tmp_path / "cut.avi")
    (tmp_path / "list.avi").write_bytes(content[:end])  # all frames are there, their list is not
    assert frame_count(tmp_path / "list.avi") == 40
    length = struct.pack("<I", begins[30] - 8)  # says no more than it holds: frames that were dropped, not lost
    (tmp_path / "few.avi").write_bytes(content[:4] + length + content[8 : begins[30]])
    assert frame_count(tmp_path / "few.avi") == 30
