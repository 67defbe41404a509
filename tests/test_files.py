import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from spact_lib.errors import UserError
from spact_lib.files import atomic_path, disk_errors, read_json, remove_leftovers, write_json, write_text


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        assert temporary.parent == target.parent and temporary.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


def test_an_exception_leaves_neither_target_nor_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_the_old_file(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as first, atomic_path(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a.txt").read_text() == "1"  # the one that ended last


def test_what_json_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    endless: list = []
    endless.append(endless)
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", endless)
    assert list(tmp_path.iterdir()) == []


FULL = OSError(errno.ENOSPC, "No space left on device")


RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
TORCH = RuntimeError("unexpected pos 704 vs 662")  # raised while it handles the system's
TORCH.__context__ = FULL


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EDQUOT, errno.EIO])
def test_what_a_disk_refuses_is_one_sentence(tmp_path: Path, number: int) -> None:
    with pytest.raises(UserError, match=f"^cannot write {tmp_path}: {os.strerror(number)}; make room"):
        with disk_errors(tmp_path):
            raise OSError(number, "refused")


@pytest.mark.parametrize("raised", [FULL, RUST, TORCH])
def test_a_full_disk_is_one_sentence_whoever_met_it(tmp_path: Path, raised: Exception) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UserError, match=f"^cannot write {target}: No space left on device; make room"):
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise raised
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ValueError("No space left on device"), FileNotFoundError(errno.ENOENT, "gone"), UserError("a frame")):
        with pytest.raises(type(error), match=str(error).replace("[", "\\[")), disk_errors(tmp_path):
            raise error


def test_only_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    left = [".frames.0123abcd.tmp.bin", "deep/.a.avi.00ff00ff.tmp.mp4", ".record.0123abcd.tmp", ".tmpxY0_z1"]
    kept = [".lock", ".gitignore", "frames.bin", ".a.tmp.bin", ".frames.0123abcd.tmpx", "a.0123abcd.tmp.bin", ".tmp/.x"]
    for name in (*left, *kept):
        write_text(tmp_path / name, "")
    remove_leftovers(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)


def test_a_damaged_file_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"half": ')
    with pytest.raises(UserError, match="record.json is damaged; remove .*, and the same command makes it again"):
        read_json(tmp_path / "record.json")


def test_a_name_of_the_greatest_length_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".csv")  # 254 bytes
    write_text(path, "a")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
