"""Code of one's own behind a name: once it has changed, what it made is neither found nor gone on with."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from spact_lib.baselines import BASELINES
from spact_lib.config import BaselineSpec
from spact_lib.errors import UserError
from spact_lib.methods import METHODS
from spact_lib.own_code import own_code
from spact_lib.store import CODE

pytestmark = pytest.mark.usefixtures("one_cpu")


def method(folder: Path, body: str):
    """A function of a file of its own, as somebody's script would have it."""
    path = folder / f"mine_{abs(hash(body))}.py"
    path.write_text(f"def mine(frames):\n    {body}\n")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.mine


def test_a_release_is_neither_found_nor_gone_on_with_for_other_code(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiny.study(tiny_csv, tmp_path / "store")
    monkeypatch.setitem(METHODS, "mine", "baseline")
    release = one.release(BaselineSpec(name="mine"), one.protocol.action)
    folder = one.store.folder(release)

    monkeypatch.setitem(BASELINES, "mine", method(tmp_path, "raise RuntimeError('half way')"))
    with pytest.raises(RuntimeError):
        one.store.run(release)
    monkeypatch.setitem(BASELINES, "mine", method(tmp_path, "return frames"))
    refused = f"^the code of 'mine' is not the one that made, or began to make, {folder}: delete that folder"
    with pytest.raises(UserError, match=refused):
        one.store.run(release)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    made = one.store.run(release)
    assert one.store.run(release).record == made.record
    target = one.target_spec(BaselineSpec(name="mine"), "action")
    assert own_code(target) == own_code(release)  # what learns on it is as old as it
    monkeypatch.setitem(BASELINES, "mine", method(tmp_path, "return 1 - frames"))
    with pytest.raises(UserError, match=refused):
        one.store.run(release)


def test_the_librarys_own_code_and_what_names_no_other_is_not_looked_at(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiny.study(tiny_csv, tmp_path / "store")
    release = one.release(BaselineSpec(name="downsample_2x"), one.protocol.action)
    assert own_code(release) == {}
    monkeypatch.setitem(BASELINES, "mine", method(tmp_path, "return frames"))
    assert own_code(release) == {} and not (one.store.run(release).folder / CODE).exists()
    monkeypatch.setitem(BASELINES, "downsample_2x", method(tmp_path, "return frames"))
    assert list(own_code(release)) == ["downsample_2x"]
    assert own_code(replace(one, seed=1).init_f_A) == {}


def test_own_code_under_a_name_of_the_librarys_is_told_apart_from_it(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tiny.study(tiny_csv, tmp_path / "store")
    release = one.release(BaselineSpec(name="downsample_2x"), one.protocol.action)
    refused = f"^the code of 'downsample_2x' is not the one that made, or began to make, {one.store.folder(release)}"
    made = one.store.run(release)
    with monkeypatch.context() as mine:
        mine.setitem(BASELINES, "downsample_2x", method(tmp_path, "return frames"))
        with pytest.raises(UserError, match=refused):
            one.store.run(release)
    assert one.store.run(release).record == made.record

    shutil.rmtree(made.folder)
    with monkeypatch.context() as mine:
        mine.setitem(BASELINES, "downsample_2x", method(tmp_path, "return frames"))
        one.store.run(release)
    with pytest.raises(UserError, match=refused):
        one.store.run(release)
