"""Decoded frames in one file: the same as decoded at every use, whole or absent, continued where it was interrupted."""

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spact_lib import packed, training
from spact_lib.config import View
from spact_lib.data import ClipDataset, VideoFrames, rows_of, test_batches
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, read_manifest
from spact_lib.packed import Group, PackedFrames, pack, write_packed
from spact_lib.video import read_frames

test_batches.__test__ = False  # a function of ours, not a test


def with_ranges(tiny_csv: Path, folder: Path) -> Manifest:
    """Videos whole, from, to, both, an image, and a row that is not used."""
    still = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(still).save(tiny_csv.parent / "clips" / "still.png")
    (folder / "ranges.csv").write_text(
        "path,split,start,end,action:single\n"
        "clips/00.avi,train,,,x\nclips/01.avi,train,3,,x\nclips/01.avi,val,,4,x\nclips/02.avi,test,2,5,x\n"
        "clips/still.png,test,,,x\nclips/gone.avi,unused,,,x\n"
    )
    return replace(read_manifest(folder / "ranges.csv"), root=tiny_csv.parent)


def test_packed_frames_equal_decoded_frames_and_honour_ranges(tiny_csv: Path, tmp_path: Path) -> None:
    manifest = with_ranges(tiny_csv, tmp_path)
    pack(manifest, 16, tmp_path)
    packed, decoded = PackedFrames(tmp_path), VideoFrames(manifest, 16)
    assert len(packed) == len(decoded) == 6
    assert [packed.n_frames(row) for row in range(6)] == [7, 5, 4, 3, 1, 0]
    first = {0: 0, 1: 3, 2: 0, 3: 2, 4: 0}
    for row, start in first.items():
        n = packed.n_frames(row)
        assert decoded.n_frames(row) == n
        indices = np.array([n - 1, 0, n // 2, 0])
        frames = packed.read(row, indices)
        assert frames.dtype == np.uint8 and min(frames.shape[1:3]) == 16
        assert np.array_equal(frames, decoded.read(row, indices))
        assert np.array_equal(frames, read_frames(manifest.root / manifest.rows["path"][row], indices + start, size=16))


def test_a_source_is_sent_to_a_worker_without_its_pixels(tiny_csv: Path, tmp_path: Path) -> None:
    pack(read_manifest(tiny_csv), 16, tmp_path)
    source = PackedFrames(tmp_path)
    frames = source.read(0, np.array([1]))
    sent = pickle.dumps(source)
    assert len(sent) < 3000 < (tmp_path / "frames.bin").stat().st_size
    assert np.array_equal(pickle.loads(sent).read(0, np.array([1])), frames)


def test_images_and_videos_come_through_one_interface(tiny_csv: Path, tmp_path: Path) -> None:
    manifest = with_ranges(tiny_csv, tmp_path)
    pack(manifest, 16, tmp_path)
    view = View(stored_side=16, size=12, n_frames=1, stride=1, crop=(0.5, 1.0), test_crop=1.0, flip=0.5, test_clips=1)
    dataset = ClipDataset(PackedFrames(tmp_path), rows_of(manifest, "test"), manifest.labels("action"), view)
    (batch,) = test_batches(dataset, 8)
    assert batch["clip"].shape == (2, 1, 3, 12, 12) and batch["label"].tolist() == [0, 0]
    assert dataset[1, 0, 0]["clip"].shape == (1, 3, 12, 12)


def test_missing_files_are_named_before_anything_is_decoded(tiny_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("path,split,a:single\nclips/00.avi,train,x\nno.avi,train,x\n")
    with pytest.raises(UserError, match="1 of the files in manifest 'bad' are not under .*: no.avi; put them there"):
        pack(replace(read_manifest(tmp_path / "bad.csv"), root=tiny_csv.parent), 16, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("span", "message"), [("3,8", "frames 3 to 8"), ("7,", "frame 7"), ("9,12", "frames 9 to 12")])
def test_a_range_beyond_the_end_is_refused(tiny_csv: Path, tmp_path: Path, span: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(f"path,split,start,end,a:single\nclips/00.avi,train,{span},x\n")
    with pytest.raises(UserError, match=f"00.avi ends before {message} of its row in 'bad'"):
        pack(replace(read_manifest(tmp_path / "bad.csv"), root=tiny_csv.parent), 16, tmp_path / "out")
    assert not (tmp_path / "out" / "index.npy").exists()


def test_all_files_are_looked_at_before_bad_ones_stop_the_run(tiny_csv: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_csv.parent / "clips", tmp_path / "clips")
    for name in ("02", "04"):
        (tmp_path / "clips" / f"{name}.avi").write_bytes(b"no video")
    manifest = replace(read_manifest(tiny_csv), root=tmp_path)
    with pytest.raises(UserError, match=r"2 of the files in .*'tiny' .*first: cannot read .*02\.avi.*--bad-files skip"):
        pack(manifest, 16, tmp_path / "out")
    assert not (tmp_path / "out" / "frames.bin").exists()


# --- interrupted ---


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


# Row 1 is not used, row 2 is long, rows 3 and 4 share a group and so do the end of row 4 and row 5.
GROUPS = [[(0, 3)], [(2, 2)], [(2, 2)], [(2, 1)], [(3, 1), (4, 2)], [(4, 1), (5, 1)], [(6, 2)]]


class Release:
    """Groups of blocks that die before the group ``dies``, and note where they were asked to begin."""

    def __init__(self, dies: int, error: type[BaseException] = Killed):
        self.dies, self.error, self.asked = dies, error, []

    def __call__(self, first: int) -> Iterator[Group]:
        self.asked.append(first)
        for at, group in enumerate(GROUPS):
            if group[0][0] >= first:
                if at == self.dies:
                    raise self.error("no more")
                yield [(row, np.full((n, 2, 3 + row % 2, 3), 10 * at + row)) for row, n in group]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)


@pytest.mark.parametrize("name", list(packed.PACKED))
def test_killed_before_any_group_it_goes_on_with_the_groups_it_would_have_had(
    always: None, tmp_path: Path, name: str
) -> None:
    write_packed(tmp_path / "whole", 8, Release(99), "", name)
    expected = written(tmp_path / "whole")
    assert set(expected) == {name, "index.npy"}
    # Kept is what was written before the last group that began a row: the group before the one that did not come.
    begins = [0, 0, 1, 1, 1, 3, 3]
    for dies in range(len(GROUPS)):
        folder = tmp_path / str(dies)
        with pytest.raises(Killed):
            write_packed(folder, 8, Release(dies), "", name)
        assert not {name, "index.npy"} & set(written(folder))
        again = Release(99)
        times = write_packed(folder, 8, again, "", name)
        assert again.asked == [begins[dies]] and written(folder) == expected
        assert set(times) == {"seconds"}
    source = PackedFrames(tmp_path / "whole")
    assert [source.n_frames(row) for row in range(8)] == [3, 0, 5, 1, 3, 1, 2, 0]
    assert source.read(4, np.array([0, 1, 2]))[:, 0, 0, 0].tolist() == [44, 44, 54]


def test_where_it_went_on_is_said_and_its_seconds_are_added(
    always: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(packed.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(Killed):
        write_packed(tmp_path, 8, Release(4), "")
    before = packed.environment()
    monkeypatch.setattr(packed, "environment", lambda: before | {"commit": "another"})
    times = write_packed(tmp_path, 8, Release(99), "")
    assert times["elsewhere"] == [before]
    # The clock is looked at when it begins, before each group that begins a row and after it is kept, and at the end.
    assert times["seconds"] == 4 + 7


@pytest.mark.parametrize("harm", ["short", "damaged"])
def test_what_cannot_be_continued_begins_again(always: None, tmp_path: Path, harm: str) -> None:
    with pytest.raises(Killed):
        write_packed(tmp_path, 8, Release(4), "")
    if harm == "short":
        with open(tmp_path / "frames.bin.part", "r+b") as file:
            file.truncate(5)
    else:
        (tmp_path / "index.part.npz").write_bytes(b"PK nothing")
    again = Release(99)
    write_packed(tmp_path, 8, again, "")
    found = written(tmp_path)
    write_packed(tmp_path / "whole", 8, Release(99), "")
    assert again.asked == [0] and found == written(tmp_path / "whole")


def test_one_clip_that_cannot_be_read_costs_no_release(always: None, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        write_packed(tmp_path, 8, Release(5, UserError), "")
    again = Release(99)
    write_packed(tmp_path, 8, again, "")
    assert again.asked == [3]
