"""Files and folders of videos through baselines: what is written, skipped, refused."""

import io
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_obfuscation import Network
from tqdm import tqdm

from spact_lib import cli, obfuscation
from spact_lib.apps import anonymize as app
from spact_lib.apps.anonymize import Settings, VideoMethod, anonymize, load_method, plan
from spact_lib.apps.transcode import survey
from spact_lib.errors import UserError
from spact_lib.video import probe, read_frames, write_video

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 24, 32, 3), dtype=np.uint8).repeat(2, 0)
AWKWARD = ["two words.avi", "-dash.mp4", 'it\'s "quoted".mp4', "line\nbreak.mkv", "🙂.mp4", "a:b%d.MP4", "sub/x.y.mp4"]


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in AWKWARD:
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = write_video((tmp_path / "in" / name).with_suffix(Path(name).suffix.lower()), FRAMES, 25, codec)
        path.rename(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("not a video")
    (tmp_path / "in" / "._clip.mp4").write_text("left by another system")
    return tmp_path / "in"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def outputs() -> set[str]:
    return {str(Path(name).with_suffix(".mp4")) for name in AWKWARD}


def test_a_folder_is_mirrored_and_broken_files_are_reported(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "broken.mov").write_text("not a video")
    out, method = tmp_path / "out", load_method("downsample_4x")
    done, failed = anonymize(plan(folder, out), method, Settings(), jobs=2)
    assert files(out) == outputs() and {str(path.relative_to(out)) for path in done} == outputs()
    assert list(failed) == [folder / "sub" / "broken.mov"] and "cannot read" in failed[folder / "sub" / "broken.mov"]
    for path, result in done.items():
        info = probe(path)
        assert (info.frames, info.width, info.height, info.fps) == (len(FRAMES), 32, 24, 25)
        assert (result.processed, result.released, result.flicker) == ((8, 6), (32, 24), 0)
        assert 0 < read_frames(path, [0]).std() < 0.5 * FRAMES[0].std()
    before = {path: path.stat().st_mtime_ns for path in done}
    again, failed = anonymize(plan(folder, out), method, Settings())
    assert again == {} and len(failed) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_was_made_otherwise_is_neither_kept_silently_nor_replaced(folder: Path, tmp_path: Path) -> None:
    source, out = folder / "-dash.mp4", tmp_path / "out.mp4"
    four, two = load_method("downsample_4x"), load_method("downsample_2x")
    assert list(anonymize([(source, out)], four, Settings())[0]) == [out]
    others = (Settings(keep_size=False), Settings(short_side=16), Settings(steady=True))
    for method, settings in ((two, Settings()), *((four, other) for other in others)):
        done, failed = anonymize([(source, out)], method, settings)
        assert done == {} and "made otherwise or of another video than" in failed[source]
    done, _ = anonymize([(source, out)], two, Settings(short_side=16, keep_size=False, overwrite=True))
    assert done[out].released == (10, 8) and probe(out).width == 10  # 21x16, halved


def test_another_video_of_the_same_name_and_length_is_not_taken_for_the_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = (write_video(tmp_path / camera / "IMG_1.mov.mp4", frames, 25) for camera, frames in
                    (("cam1", FRAMES), ("cam2", FRAMES[::-1])))  # fmt: skip
    out, method = tmp_path / "out.mp4", load_method("downsample_2x")
    anonymize([(ours, out)], method, Settings())
    done, failed = anonymize([(theirs, out)], method, Settings())
    assert not done and "of another video than" in failed[theirs] and "cam2" in failed[theirs]
    elsewhere = Path(shutil.copy(ours, tmp_path / "renamed.mp4"))
    assert anonymize([(elsewhere, out)], method, Settings()) == ({}, {})  # the same video under another name
    done, _ = anonymize([(theirs, out)], method, Settings(overwrite=True))
    assert list(done) == [out] and anonymize([(theirs, out)], method, Settings()) == ({}, {})
    # The digest tells nobody which releases, made in different ways, are of the same video,
    anonymize([(theirs, tmp_path / "large.mp4")], method, Settings(short_side=30))
    assert app._comment(out).split("source ")[1] not in app._comment(tmp_path / "large.mp4")
    assert (tmp_path / "runs" / "anonymize.key").stat().st_mode & 0o077 == 0
    # nor to those who have the original, but not this store.
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "another"))
    again = anonymize([(theirs, tmp_path / "again.mp4")], method, Settings())[0]
    assert len(again) == 1 and app._comment(out) != app._comment(tmp_path / "again.mp4")


def test_the_bar_is_as_long_as_what_is_left(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []

    def bar(**options: object) -> tqdm:
        bars.append(tqdm(**options | {"disable": False, "file": io.StringIO()}))
        return bars[-1]

    monkeypatch.setattr(app, "tqdm", bar)
    method, pairs = load_method("downsample_2x"), plan(folder, tmp_path / "out")
    (folder / "broken.mov").write_text("not a video" * 1000)
    anonymize(pairs[:2], method, Settings())
    _, failed = anonymize([*pairs, (folder / "broken.mov", tmp_path / "broken.mp4")], method, Settings())
    assert len(failed) == 1
    for shown, done in zip(bars, (pairs[:2], pairs[2:]), strict=True):
        assert shown.n == pytest.approx(shown.total) == sum(source.stat().st_size for source, _ in done)


def test_persons_are_blackened_and_blurred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(weights: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(obfuscation, "fasterrcnn_mobilenet_v3_large_320_fpn", refuse)
    with pytest.raises(UserError, match="cannot be downloaded .no route to host.; put https://.* at .*/torch/.*.pth"):
        load_method("obf_blackening")
    monkeypatch.setattr(obfuscation, "fasterrcnn_mobilenet_v3_large_320_fpn", lambda weights: Network())
    source = write_video(tmp_path / "a.mp4", FRAMES, 25, quality=0)
    spread = {}
    for name in obfuscation.OBFUSCATIONS:
        out = tmp_path / f"{name}.mp4"
        done, _ = anonymize([(source, out)], load_method(name), Settings())
        assert done[out].released == (32, 24)
        released, raw = (read_frames(path, range(len(FRAMES))).astype(int) for path in (out, source))
        inside = released[:, 7:13, 5:13]  # of the box that the network sees
        spread[name] = inside.std((1, 2)).mean()
        assert np.abs(released - raw)[:, 18:, 20:].mean() < 25 and (name != "obf_blackening" or inside.max() < 40)
    assert spread["obf_blackening"] < spread["obf_strong_blur"] < spread["obf_weak_blur"]


def test_an_interrupted_run_continues(folder: Path, tmp_path: Path) -> None:
    out, finished = tmp_path / "out", threading.Event()

    def stop_at_the_second(frames: np.ndarray) -> np.ndarray:
        if finished.is_set() and len(frames) > 1:
            raise KeyboardInterrupt
        if len(frames) > 1:
            finished.set()
        return 255 - frames

    pairs = plan(folder, out)
    with pytest.raises(KeyboardInterrupt):
        anonymize(pairs, VideoMethod("m", "m", None, stop_at_the_second), Settings())
    assert len(files(out)) == 1 and files(out) < outputs()
    done, failed = anonymize(pairs, VideoMethod("m", "m", None, lambda frames: 255 - frames), Settings())
    assert len(done) == len(AWKWARD) - 1 and not failed and files(out) == outputs()


def test_reading_can_be_stopped_in_the_middle(tmp_path: Path) -> None:
    """Of a file of gigabytes the digest and the survey take long."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 96, 128, 3), dtype=np.uint8)
    source = write_video(tmp_path / "a.mp4", noise, 25, quality=0)
    assert source.stat().st_size > 2**20
    for read in (lambda check: app._digest(source, b"key", "", check), lambda check: survey(source, check)):
        seen = []

        def check(seen: list = seen) -> None:
            seen.append(1)
            if len(seen) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            read(check)


def test_a_stopped_command_leaves_nothing_half_written(folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", FRAMES.repeat(400, 0), 25)
    out, command = tmp_path / "out", [sys.executable, "-m", "spact_lib", "anonymize", "--anonymizer", "downsample_2x"]
    out.mkdir()
    running = subprocess.Popen([*command, str(tmp_path / "long.mp4"), str(out)], stderr=subprocess.PIPE, text=True)
    while not files(out):
        assert running.poll() is None
        time.sleep(0.05)
    assert all(name.startswith(".") for name in files(out))  # under a temporary name
    running.terminate()
    assert "videos that are finished are kept, and the same" in running.communicate()[1] and running.returncode == 130
    assert not files(out)


def test_the_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, caplog) -> None:
    def status(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            cli.main(["anonymize", *arguments])
        return stop.value.code

    monkeypatch.chdir(folder)
    names = ["--anonymizer", "downsample_2x", "--", "-dash.mp4", str(tmp_path / "one.mp4")]
    assert status(*names) == 0
    printed = capsys.readouterr().out
    assert "a voice tells who speaks" in printed and "1 written, 0 finished earlier, 0 failed" in printed
    assert "18 frames, 0.72 s, 32x24 -> 16x12 -> 32x24" in caplog.text
    assert "flicker 0.00 beside a change of" in caplog.text and "sound none" in caplog.text
    assert status(*names) == 0 and "0 written, 1 finished earlier" in capsys.readouterr().out
    (folder / "broken.mov").touch()
    assert status("--anonymizer", "downsample_2x", str(folder), str(tmp_path / "all")) == 2
    assert "error: cannot read" in caplog.text and files(tmp_path / "all") == outputs()
    assert "not taken for videos: .txt (1); one given by its name is tried" in caplog.text
    assert status("--anonymizer", "raw", str(folder), str(tmp_path / "raw")) == 2
    assert "raw hides nothing" in capsys.readouterr().err
    alone = ["--anonymizer", "downsample_2x", str(folder), str(tmp_path / "none")]
    for wrong, said in (
        (["--anonymizer", "downsample_2x", "gone.mov", str(tmp_path / "gone.mp4")], "no file or folder gone.mov"),
        ([*alone, "--jobs", "0"], "0 videos at a time is too few"),
        ([*alone, "--short-side", "0"], "a short side of 0 pixels"),
    ):
        caplog.clear()
        assert status(*wrong) == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.count("\n") == 1 and not printed.out + caplog.text
    assert status("--help") == 0 and "voice" in capsys.readouterr().out


def test_refusals(folder: Path, tmp_path: Path) -> None:
    clip, empty = folder / "-dash.mp4", tmp_path / "empty"
    empty.mkdir()
    for source, target, message in (
        (folder, folder / "out", "lie within each other"),
        (folder / "sub", folder, "lie within each other"),
        (folder, clip, "lie within each other"),
        (empty, clip, "is a file, but"),
        (empty, tmp_path / "out", "holds no file with the suffix of a video"),
        (folder, tmp_path / "o.mp4", "o.mp4 is named like a video, but .*/in is a folder; name a folder"),
        (folder, tmp_path / "o.MKV", "o.MKV is named like a video"),
        (clip, tmp_path / "out.avi", "must be a name that ends in .mp4"),
        (tmp_path / "mistyped", tmp_path / "out", "there is no file or folder .*mistyped; check the path"),
        (tmp_path / "mistyped.mov", tmp_path / "out.mp4", "there is no file or folder .*mistyped.mov; check the path"),
        (clip, clip, "is the input itself"),
    ):
        with pytest.raises(UserError, match=message):
            plan(source, target)
    assert plan(clip, empty) == [(clip, empty / "-dash.mp4")]
    named = tmp_path / "there.mp4"
    named.mkdir()
    assert {out.parent for _, out in plan(folder / "sub", named)} == {named}  # somebody has made it so
    os.link(clip, folder / "-dash.mov")
    assert {(a.name, b.name) for a, b in plan(folder, tmp_path / "out") if "dash" in a.name} == {
        ("-dash.mov", "-dash.mov.mp4"), ("-dash.mp4", "-dash.mp4.mp4"),
    }  # fmt: skip
    os.link(clip, folder / "-DASH.m4v")  # one file, where a disk does not tell capitals
    assert {b.name for a, b in plan(folder, tmp_path / "out") if a.suffix == ".m4v"} == {"-DASH.m4v.mp4"}
    os.link(clip, folder / "-dash.mov.avi")
    with pytest.raises(UserError, match=r"would both become .*-dash\.mov\.mp4; rename one"):
        plan(folder, tmp_path / "out")
    with pytest.raises(UserError, match="there is no folder no/folder; `spact export no/folder` makes it"):
        load_method("no/folder")
    named = "a folder that .*, downsample_2x.*, obf_weak_blur$"
    for name, message in (
        ("blur", f"unknown anonymizer 'blur'; choose one of: {named}"),
        ("noise_features", "is not offered: .*; choose another"),
        ("supervised", "is learned; `spact export FOLDER --method supervised` makes"),
    ):
        with pytest.raises(UserError, match=message):
            load_method(name)
    f_A = VideoMethod("f_A", "key", 32, lambda frames: frames)
    with pytest.raises(UserError, match="short side of 8 pixels; give at least 16"):
        anonymize([], f_A, Settings(short_side=8))
    with pytest.raises(UserError, match="short side of 0 pixels; give at least 1"):
        anonymize([], load_method("downsample_2x"), Settings(short_side=0))
    with pytest.raises(UserError, match="0 videos at a time"):
        anonymize([], f_A, Settings(), jobs=0)


def test_frames_that_memory_cannot_hold_are_the_fault_of_one_video(tmp_path: Path) -> None:
    clips = [write_video(tmp_path / f"{n}.mp4", np.zeros((2, n, n, 3), np.uint8), 25) for n in (16, 32)]

    def apply(frames: np.ndarray) -> np.ndarray:
        if frames.shape[1] == 32:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
        return frames

    pairs = [(clip, tmp_path / f"out-{clip.name}") for clip in clips]
    done, failed = anonymize(pairs, VideoMethod("large", "key", None, apply), Settings())
    assert list(done) == [tmp_path / "out-16.mp4"]
    assert "32.mp4 has frames too large for this machine's memory" in failed[clips[1]]


def test_another_frame_size_than_the_judged_one_is_said(folder: Path, tmp_path: Path, caplog) -> None:
    f_A = VideoMethod("f_A", "key", 32, lambda frames: frames)
    pairs = [(folder / "-dash.mp4", tmp_path / "out.mp4")]
    with caplog.at_level("INFO", app.log.name):
        done, _ = anonymize(pairs, f_A, Settings())
        assert done[tmp_path / "out.mp4"].processed == (43, 32) and "is not known" not in caplog.text
        anonymize(pairs, f_A, Settings(short_side=64, overwrite=True))
    assert "judged at a short side of 32 pixels; what it hides at 64 is not known" in caplog.text
