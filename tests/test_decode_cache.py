"""The decode cache: the right frames at the right time, ranges converted, resumed, and never half of it visible."""

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_filework import here as here  # a fixture

from spact_lib import decode_cache
from spact_lib.decode_cache import build_cache, convert_range, kept_frames
from spact_lib.errors import DiskError, UserError
from spact_lib.files import write_json
from spact_lib.manifest import read_manifest, rows_set_aside
from spact_lib.video import probe, read_frames, write_video


def gray(path: Path, frames: int, fps: float, size: tuple[int, int] = (48, 65)) -> None:
    """Frame n is gray with the value 4 n."""
    write_video(path, (np.full((*size, 3), 4 * n, np.uint8) for n in range(frames)), fps, "mpeg4", quality=1)


def values(path: Path) -> list[int]:
    return [round(frame.mean() / 4) for frame in read_frames(path, range(probe(path).frames))]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    gray(tmp_path / "a.avi", 40, 20)
    gray(tmp_path / "sub" / "a.mp4", 30, 10)
    rows = [
        "a.avi,train,,,x",
        "a.avi,test,11,20,x",
        "sub/a.mp4,train,5,,y",
        "sub/a.mp4,test,28,40,y",
        "no.avi,test,,,x",
    ]
    (tmp_path / "my.csv").write_text("\n".join(["path,split,start,end,c:single", *rows]) + "\n")
    return tmp_path / "my.csv"


def test_frames_and_ranges_at_another_rate(own: Path, tmp_path: Path) -> None:
    made = build_cache(own, tmp_path / "copy", short_side=24, fps=10)
    copy = read_manifest(tmp_path / "copy")
    halved, kept = (copy.root / f"{name}.mp4" for name in ("a.avi", "sub/a.mp4"))
    assert values(halved) == list(range(1, 40, 2)) and values(kept) == list(range(30))
    info = probe(halved)
    assert (info.fps, info.height, info.width, info.codec) == (10, 24, 32, "mpeg4")
    found = copy.rows[["split", "start", "end"]].astype(object).where(copy.rows[["split", "start", "end"]].notna(), "")
    assert found.to_numpy().tolist() == [
        ["train", "", ""], ["test", 5, 10], ["train", 5, 30], ["unused", "", ""], ["unused", "", ""],
    ]  # fmt: skip
    listed = pd.read_csv(tmp_path / "copy" / "problems.csv").set_index("path")["problem"].to_dict()
    assert listed == {"sub/a.mp4": "shorter than its rows", "no.avi": "missing"}
    assert rows_set_aside(copy) == {"test": 2}
    assert (made["files"], made["problems"]) == (2, 2) and made["decode"]["ratio"] > 0
    assert made["bytes"] == sum(path.stat().st_size for path in (halved, kept))


def test_it_stops_at_bad_files_where_told_to_and_continues_without(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    with pytest.raises(UserError, match="2 of the files .*; first: .*a.mp4 is shorter than its rows: the file has 30"):
        build_cache(own, out, short_side=24, stop=True)
    assert not (out / "manifest.csv").exists()
    assert build_cache(own, out, short_side=24)["new"] == 0 and (out / "manifest.csv").exists()


@pytest.mark.parametrize(("source_fps", "fps"), [(25, 25), (30, 15), (29.97, 25), (10, 25), (50, 7)])
def test_kept_frames_keep_the_time(source_fps: float, fps: float) -> None:
    kept = kept_frames(300, source_fps, fps)
    times = (np.arange(len(kept)) + 0.5) / fps
    assert np.abs((kept + 0.5) / source_fps - times).max() <= 0.5 / source_fps + 1e-9
    assert np.all(np.diff(kept) >= 0) and len(kept) == round(300 * fps / source_fps)
    start, end = convert_range(100, 200, kept)
    assert kept[start] >= 100 and kept[end - 1] < 200 and (start == 0 or kept[start - 1] < 100) and kept[end] >= 200
    first, last = convert_range(299, 300, kept)
    assert last == first + 1 <= len(kept) or last <= len(kept)


def test_a_still_and_a_small_video_are_not_enlarged(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 32), (200, 0, 0)).save(tmp_path / "p.jpg")
    gray(tmp_path / "s.avi", 3, 10, (16, 18))
    (tmp_path / "my.csv").write_text("path,split,c:single\np.jpg,train,x\ns.avi,train,x\n")
    build_cache(tmp_path / "my.csv", tmp_path / "copy", short_side=24, fps=50)
    still, small = (probe(tmp_path / "copy" / "files" / name) for name in ("p.jpg.mp4", "s.avi.mp4"))
    assert (still.frames, still.height, still.width) == (1, 24, 48)
    assert (small.frames, small.height, small.width) == (15, 16, 18)


def test_killed_in_the_middle_it_continues_and_shows_no_manifest(
    own: Path, tmp_path: Path, here: None, monkeypatch
) -> None:
    converted: list[str] = []
    original = decode_cache._convert

    def stop_at_the_second(*settings_and_path) -> dict:
        if converted:
            raise KeyboardInterrupt
        converted.append(settings_and_path[-1])
        return original(*settings_and_path)

    monkeypatch.setattr(decode_cache, "_convert", stop_at_the_second)
    out = tmp_path / "copy"
    with pytest.raises(KeyboardInterrupt):
        build_cache(own, out, short_side=24)
    assert converted == ["a.avi"] and not (out / "manifest.csv").exists()
    with pytest.raises(UserError, match="manifest.csv"):
        read_manifest(out)
    monkeypatch.setattr(decode_cache, "_convert", original)
    changed = (out / "files" / "a.avi.mp4").stat().st_mtime_ns
    build_cache(own, out, short_side=24)
    assert (out / "files" / "a.avi.mp4").stat().st_mtime_ns == changed and len(read_manifest(out)) == 5
    gray(own.parent / "a.avi", 20, 20)
    os.utime(own.parent / "a.avi", ns=(5, 5))
    build_cache(own, out, short_side=24)
    assert probe(out / "files" / "a.avi.mp4").frames == 20


def test_a_full_disk_sets_no_rows_aside_and_the_same_command_continues(own: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "copy", tmp_path / "undisturbed"
    build_cache(own, whole, short_side=24)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # smaller than any of the videos
    try:
        # The files are converted beside each other: which one meets the full disk first is open.
        with pytest.raises(DiskError, match=r"^cannot write .*/files/.*\.mp4: File too large; make room"):
            build_cache(own, out, short_side=24)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (out / "manifest.csv").exists() and not (out / "problems.csv").exists()
    build_cache(own, out, short_side=24)
    for path in ("manifest.csv", "problems.csv", "tasks.json", "files/a.avi.mp4", "files/sub/a.mp4.mp4"):
        assert (out / path).read_bytes() == (whole / path).read_bytes(), path


def test_a_copy_that_does_not_read_back_is_refused(own: Path, tmp_path: Path, here: None, monkeypatch) -> None:
    monkeypatch.setattr(decode_cache, "iter_frames", lambda path, size=None: iter([np.zeros((24, 32, 3), np.uint8)]))
    with pytest.raises(UserError, match="no file of 'my' .* could be converted; first: .*40 frames were to be copied"):
        build_cache(own, tmp_path / "copy", short_side=24)
    assert not list((tmp_path / "copy").rglob("*.mp4"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"short_side": 25}, "short side must be even"),
        ({"short_side": 8}, "at least 16 pixels"),
        ({"short_side": 24, "fps": 0}, "0 frames per second is no rate"),
        ({"short_side": 32}, "holds a copy with short_side 24, not 32; name another --out"),
    ],
)
def test_bad_settings_are_one_sentence(own: Path, tmp_path: Path, settings: dict, said: str) -> None:
    (tmp_path / "copy").mkdir()
    note = {"source": str(tmp_path.resolve()), "short_side": 24, "fps": None}
    (tmp_path / "copy" / "cache.json").write_text(json.dumps(note))
    with pytest.raises(UserError, match=said):
        build_cache(own, tmp_path / "copy", **settings)


def test_another_folder_and_a_damaged_note_are_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not empty and holds no copy"):
        build_cache(own, tmp_path, short_side=24)
    (tmp_path / "copy").mkdir()
    for text in ('{"source":', "[" * 100_000):
        (tmp_path / "copy" / "cache.json").write_text(text)
        with pytest.raises(UserError, match="cache.json is damaged"):
            build_cache(own, tmp_path / "copy", short_side=24)


def test_the_note_of_a_process_that_began_at_the_same_moment_is_no_foreign_file(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, listed = tmp_path / "copy", Path.iterdir

    def just_after_the_other(folder: Path) -> Iterator[Path]:
        write_json(out / "cache.json", {"source": str(tmp_path.resolve()), "short_side": 24, "fps": None})
        return listed(folder)

    out.mkdir()
    monkeypatch.setattr(Path, "iterdir", just_after_the_other)
    assert build_cache(own, out, short_side=24)["files"] == 2


@pytest.mark.parametrize("theirs", [24, 32])
def test_a_folder_that_another_process_claims_at_the_same_moment(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: int
) -> None:
    """With the same settings the copy is shared, with others it is refused, and never mixed."""
    exists, out = Path.exists, tmp_path / "copy"

    def just_before(path: Path) -> bool:
        if path == out / "cache.json":
            monkeypatch.undo()
            assert build_cache(own, out, short_side=theirs)["new"] == 2
            return False
        return exists(path)

    monkeypatch.setattr(Path, "exists", just_before)
    if theirs == 24:
        assert build_cache(own, out, short_side=24)["new"] == 0
    else:
        with pytest.raises(UserError, match="holds a copy with short_side 32, not 24"):
            build_cache(own, out, short_side=24)
    assert probe(out / "files" / "a.avi.mp4").height == theirs


def test_only_what_is_gone_or_damaged_is_made_again_and_the_manifest_stays(
    own: Path, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gray(tmp_path / "third.avi", 12, 10)
    own.write_text(own.read_text() + "third.avi,train,,,x\n")
    out, original = tmp_path / "copy", decode_cache._convert
    assert build_cache(own, out, short_side=24)["new"] == 3
    files = {name: out / "files" / f"{name}.mp4" for name in ("a.avi", "sub/a.mp4", "third.avi")}
    before = {name: (file.read_bytes(), file.stat().st_mtime_ns) for name, file in files.items()}
    table = (out / "manifest.csv").read_bytes()

    def damage() -> None:
        files["a.avi"].unlink()
        content = bytearray(before["sub/a.mp4"][0])
        content[len(content) // 2] ^= 1  # of the same size: only its content tells
        files["sub/a.mp4"].write_bytes(content)

    def killed(*settings_and_path: object) -> dict:
        assert read_manifest(out).fingerprint and (out / "manifest.csv").read_bytes() == table
        raise KeyboardInterrupt

    damage()
    monkeypatch.setattr(decode_cache, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        build_cache(own, out, short_side=24)
    assert (out / "manifest.csv").read_bytes() == table

    again: list[str] = []
    monkeypatch.setattr(decode_cache, "_convert", lambda *given: (again.append(given[-1]), original(*given))[1])
    made = build_cache(own, out, short_side=24)
    assert again == ["a.avi", "sub/a.mp4"] and made["new"] == 2 and made["files"] == 3
    assert {name: file.read_bytes() for name, file in files.items()} == {name: b for name, (b, _) in before.items()}
    assert files["third.avi"].stat().st_mtime_ns == before["third.avi"][1]
    assert (out / "manifest.csv").read_bytes() == table and build_cache(own, out, short_side=24)["new"] == 0


def test_real_clips_decode_faster_from_the_copy(shared_data: Path, tmp_path: Path) -> None:
    """27 frames a second at 640x480 with one keyframe: the copy must win by far, even on a busy machine."""
    clips = shared_data / "clips" / "gestures"
    names = [f"PS7A{a}P1T1.avi" for a in (1, 2, 3)]
    for name in names:
        os.symlink(clips / name, tmp_path / name)
    (tmp_path / "my.csv").write_text("path,split,c:single\n" + "".join(f"{name},train,x\n" for name in names))
    made = build_cache(tmp_path / "my.csv", tmp_path / "copy", short_side=112, fps=15)
    assert made["decode"]["ratio"] > 1.5 and made["bytes"] < made["source_bytes"]
    copies = read_manifest(tmp_path / "copy")
    lengths = [(probe(clips / name).duration_s, probe(copies.root / f"{name}.mp4").duration_s) for name in names]
    assert all(abs(before - after) < 1 / 15 for before, after in lengths)
