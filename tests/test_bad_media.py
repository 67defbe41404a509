"""Files that are no sound videos: never a crash, never memory without bounds, and what is left out is said."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from bad_media import FRAMES, corpus, noise

from spact_lib import cli
from spact_lib.errors import UserError
from spact_lib.manifest import read_manifest, rows_set_aside
from spact_lib.screening import usable
from spact_lib.video import write_video

# Every use of a file, in a process of its own whose memory is limited: what crashes or grows ends it.
USES = """
import json, resource, sys
from pathlib import Path
import numpy as np
from spact_lib.apps.transcode import transcode
from spact_lib.decode_cache import _convert
from spact_lib.errors import UserError
from spact_lib.screening import _decode
from spact_lib.video import probe, read_frames

out, limit = Path(sys.argv[1]), int(sys.argv[2]) * 2**20
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit))

def uses(path):
    yield "probe", lambda: probe(path).frames
    yield "read", lambda: len(read_frames(path, [0, probe(path).frames - 1, 0], 112))
    yield "decode", lambda: _decode(str(path.parent), path.name)["frames"]
    yield "copy", lambda: _convert(str(path.parent), str(out), 32, None, path.name)["frames"]
    yield "copy at 25", lambda: _convert(str(path.parent), str(out), 32, 25.0, path.name)["frames"]
    yield "anonymize", lambda: transcode(path, out / "out.mp4", lambda frames: 255 - frames, short_side=32).frames

for line in sys.stdin:
    path, said = Path(json.loads(line)), {}
    for name, use in uses(path):
        try:
            said[name] = use()
        except UserError as error:
            said[name] = str(error)
    print(json.dumps({"name": path.name, "said": said}), flush=True)
"""


def used(paths: list[Path], out: Path, megabytes: int) -> dict[str, dict[str, int | str]]:
    """name -> use -> frames or the sentence of a UserError."""
    out.mkdir()
    given = "".join(json.dumps(str(path)) + "\n" for path in paths)
    command = [sys.executable, "-c", USES, str(out), str(megabytes)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=one_thread)
    found = {line["name"]: line["said"] for line in map(json.loads, done.stdout.splitlines())}
    after = [path.name for path in paths if path.name not in found]
    assert done.returncode == 0, f"{after[:1]}: {done.stderr[-2000:]}"
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits and reads its memory as Linux does")
def test_no_file_crashes_or_takes_memory_without_bounds(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (tmp_path / "made").mkdir()
    paths = []
    for name, content in corpus(tmp_path / "made"):
        paths.append(media / name)
        paths[-1].write_bytes(content)
    found = used(paths, tmp_path / "out", 1500)
    assert len(found) == len(paths) > 120
    for name, said in found.items():
        for use, result in said.items():
            if isinstance(result, int):  # a copy at another rate repeats frames
                assert 0 < result <= 50 * FRAMES, (name, use, result)
            else:  # one sentence, which names the file, or the output that cannot be
                assert "\n" not in result and (name in result or "out.mp4" in result), (name, use, result)
    for name in ("bomb.png", "huge.png", "huge.gif", "no frames.avi", "a list.m3u8", "a list.mp4", "cut 0.5 a.mp4"):
        assert all(isinstance(result, str) for result in found[name].values()), (name, found[name])
    for name in ("two sizes a.h264", "wrong suffix.jpg", "slow.avi"):
        assert found[name]["read"] == 3, (name, found[name])
    assert not [path for path in (tmp_path / "out").iterdir() if ".tmp" in path.name]


AWKWARD = ["two words.avi", "-dash.avi", 'it\'s "quoted", twice.avi', "line\nbreak.avi", "🙂 é.avi", "$(id);&.avi"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two rows of each awkwardly named clip, one of a clip cut off, one of a missing one, one beyond the end."""
    rows = []
    for n, name in enumerate(AWKWARD):
        write_video(tmp_path / name, noise(), 25, "mpeg4")
        rows += [(name, split, "", "ab"[n % 2]) for split in ("train", "test")]
    (tmp_path / "cut.avi").write_bytes((tmp_path / AWKWARD[0]).read_bytes()[:-3000])
    rows += [("cut.avi", "train", "", "a"), ("none.avi", "test", "", "b"), (AWKWARD[1], "val", FRAMES + 1, "a")]
    with open(tmp_path / "my 'own' 🙂.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "split", "end", "c:single"), *rows])
    return tmp_path / "my 'own' 🙂.csv"


def test_rows_of_bad_files_are_set_aside_or_stop_the_run(table: Path, tmp_path: Path) -> None:
    manifest = read_manifest(table)
    with pytest.raises(UserError, match=r"3 of the files in manifest \"my 'own' 🙂\" cannot be used; first: .*skip"):
        usable(manifest, tmp_path / "log.jsonl", "stop")
    kept, faults = usable(manifest, tmp_path / "log.jsonl", "skip")
    assert set(faults) == {"cut.avi", "none.avi", AWKWARD[1]} and "20 frames, a row ends at 21" in faults[AWKWARD[1]]
    assert rows_set_aside(kept) == {"train": 2, "val": 1, "test": 2} and rows_set_aside(manifest) == {}
    assert kept.fingerprint != manifest.fingerprint
    away = kept.rows["split"] == "unused"
    assert set(kept.rows.loc[away, "path"]) == set(faults)
    assert kept.rows.loc[~away].equals(manifest.rows[~away.to_numpy()].assign(missing_from="")[kept.rows.columns])
    sound = manifest.rows["path"].isin([AWKWARD[0]])
    assert usable(kept, tmp_path / "log.jsonl", "stop")[0] is kept and sound.any()


def test_where_no_file_can_be_used_there_is_nothing_to_skip(table: Path, tmp_path: Path) -> None:
    (tmp_path / "only.csv").write_text("path,split,c:single\ncut.avi,train,a\n")
    with pytest.raises(UserError, match=r"cut\.avi.*--bad-files skip"):
        usable(read_manifest(tmp_path / "only.csv"), tmp_path / "log.jsonl", "skip")


def spact(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code


def test_prepare_leaves_out_and_says_so(table: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    prepare = ["prepare", "custom", "--root", table.name, "--out", tmp_path / "out", "--bad-files"]
    assert spact(*prepare, "stop") == 2 and "3 of the files" in capsys.readouterr().err
    assert not (tmp_path / "out" / table.stem).exists()
    assert spact(*prepare, "skip") == 0
    printed = capsys.readouterr().out
    assert printed.count("left out: ") == 3 and "set aside as unused: 2 train, 1 val, 2 test" in printed
    problems = pd.read_csv(tmp_path / "out" / table.stem / "problems.csv").set_index("path")["problem"]
    assert problems["cut.avi"] == "unreadable" and problems["none.avi"] == "missing"
    kept = read_manifest(tmp_path / "out" / table.stem)
    assert rows_set_aside(kept) == {"train": 2, "val": 1, "test": 2}


def test_tables_folders_and_clips_may_have_any_name(table: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    own, copy = Path('-my "own" table,\n🙂.csv'), Path("-it's a copy\n🙂")
    table.rename(own)
    assert spact("report", "--", own) == 0 and "media: 7 of 8 files" in capsys.readouterr().out
    assert spact("cache", "--short-side", "16", f"--out={copy}", "--", own) == 0
    assert "  6 files, 6 of them written now" in capsys.readouterr().out
    rows = read_manifest(copy).rows
    assert set(rows.loc[rows["split"] == "train", "path"]) >= {f"{name}.mp4" for name in AWKWARD}
    assert spact("report", "--", copy) == 0 and '-my "own" table,\n🙂: 6 train' in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))  # of a terminal that knows no emoji
    assert spact("report", "--", copy) == 0


def test_anonymize_skips_or_stops(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    (tmp_path / "in").mkdir()
    (tmp_path / "cut.avi").rename(tmp_path / "in" / "a.avi")
    (tmp_path / AWKWARD[0]).rename(tmp_path / "in" / "b.avi")
    command = ["anonymize", "--anonymizer", "downsample_2x", tmp_path / "in", tmp_path / "out"]
    assert spact(*command, "--bad-files", "stop") == 2
    said = capsys.readouterr()
    assert said.err.count("a.avi") == 1 and "failed" not in said.out
    assert spact(*command) == 2 and "1 failed" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.mp4"]
