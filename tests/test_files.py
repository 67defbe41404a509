import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from spact_lib.errors import DiskError, UserError
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
    with pytest.raises(DiskError, match=f"^cannot write {target}: No space left on device; make room"):
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise raised
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^cannot use /.*xx: File name too long; correct its name"), disk_errors():
        (tmp_path / ("x" * 300)).stat()
    with pytest.raises(UserError, match="^cannot use /data/a.avi: Permission denied"), disk_errors(tmp_path / "store"):
        raise PermissionError(errno.EACCES, "refused", "/data/a.avi")
    with pytest.raises(DiskError, match=f"^cannot write {tmp_path}/store: Perm"), disk_errors(tmp_path / "store"):
        raise PermissionError(errno.EACCES, "refused", f"{tmp_path}/.store.0123abcd.tmp")


def test_a_folder_in_a_files_place_is_named_and_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=f"^cannot write {tmp_path}/a.txt: Is a directory") as raised:
        write_text(tmp_path / "a.txt", "")
    assert not isinstance(raised.value, DiskError)
    with pytest.raises(UserError, match=f"^cannot use {tmp_path}/a.txt: Is a directory"), disk_errors():
        os.replace(write_text(tmp_path / "b.txt", ""), tmp_path / "a.txt")


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


@pytest.mark.parametrize("text", ['{"half": ', "[" * 100_000])
def test_a_damaged_file_of_ours_is_named_and_only_this_is_to_be_removed(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=f"^{tmp_path}/data.json is damaged; restore or remove this file, and run"):
        read_json(tmp_path / "data.json")


def test_a_name_of_the_greatest_length_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".csv")  # 254 bytes
    write_text(path, "a")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
