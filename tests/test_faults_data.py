"""The built-in data: killed before and after every kind of file, and drawn (and copied smaller) by four processes at
once. What is trained: test_faults.py."""

import multiprocessing
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_faults import Killed, dying, fork, in_child, needs_fork
from test_filework import one_by_one

from data_prep import mini
from data_prep import mini_world as world
from spact_lib import filework
from spact_lib.decode_cache import build_cache
from spact_lib.errors import UserError
from spact_lib.manifest import read_manifest

# As few as hold every class.
FEW = {
    "ucf101": {"train": 10, "test": 2},
    "hmdb51": {"train": 8, "test": 8, "unused": 1},
    "vispr": {"train": 3, "val": 2, "test": 3},
    "phvu": {"train": 3, "test": 3},
}


class NoPool:
    """In place of the pool: this process draws, and dies, alone."""

    map = staticmethod(map)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> "NoPool":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def few_short_files_in_chunks_of_two() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mini.SIZES, "smoke", FEW)
        patch.setattr(world, "FRAMES", 32)
        patch.setattr(mini, "_CHUNK", 2)
        patch.setattr(mini, "_IMAGES_PER_VIDEO", 1)
        patch.setattr(mini, "ProcessPoolExecutor", NoPool)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    mini.draw(out := tmp_path_factory.mktemp("undisturbed"), 0, "smoke")
    return drawing(out)


def drawing(out: Path) -> dict[str, bytes]:
    """Every file of a drawing that a reader may open; of an archive its arrays, as it holds times."""
    files = [path for path in out.rglob("[!.]*") if path.is_file()]
    found = {str(path.relative_to(out)): path.read_bytes() for path in files if path.suffix != ".npz"}
    return found | {str(path.relative_to(out)): np.load(path)["boxes"].tobytes() for path in out.glob("*/boxes.npz")}


# In the order of their making.
KINDS = [
    r"begun\.json", r"\.avi", r"0\.npy", r"\.jpg", r"\.mp4", r"boxes\.npz", r"classInd\.txt", r"pulse\.json",
    r"HVU_Val.*\.csv", r"tasks\.json", r"manifest\.csv", r"drawn\.json",
]  # fmt: skip


def is_kind(kind: str, ago: int, renamed: list[str]) -> bool:
    return len(renamed) >= ago and bool(re.search(f"{kind}$", renamed[-ago]))


def test_a_drawing_survives_a_death_before_and_after_every_kind_of_file(undisturbed: dict, tmp_path: Path) -> None:
    out, finished, deaths = tmp_path / "out", {}, 0
    for kind in KINDS:
        for ago in (1, 2):  # before it is there; when it is, before the next file
            try:
                with dying(partial(is_kind, kind, ago)):
                    mini.draw(out, 0, "smoke")
            except Killed:
                deaths += 1
                assert not (out / "drawn.json").exists()
            chunks = {path: path.stat().st_mtime_ns for path in out.glob("*/boxes/[0-9]*.npy")}
            assert {path: chunks[path] for path in finished} == finished, "what was finished was drawn again"
            finished = chunks
    assert deaths == 2 * len(KINDS) - 1  # after the last file it was done
    assert drawing(out) == undisturbed and not list(out.rglob("*.0123abcd.tmp*"))


def test_a_process_that_dies_while_it_draws_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(NoPool, "map", broken)
    with pytest.raises(UserError, match="a process that drew into .* died .*; the same command continues"):
        mini.draw(tmp_path, 0, "smoke")


# --- several processes at once ---


def prepare(root: Path, barrier: multiprocessing.Barrier, renamed: Path, dies: bool) -> None:
    replace = os.replace

    def noted(source: Path, target: Path) -> None:
        if dies and Path(target).suffix == ".avi":
            os.kill(os.getpid(), signal.SIGKILL)  # with the lock in its hand
        replace(source, target)
        with open(renamed, "a") as file:
            file.write(f"{target}\n")

    os.replace, filework._each = noted, one_by_one
    barrier.wait(60)
    mini.draw(root / "mini", 0, "smoke")
    build_cache(root / "mini" / "ucf101", root / "copy", short_side=16)


@needs_fork
def test_four_processes_draw_and_copy_once_and_wait_for_no_dead_one(undisturbed: dict, tmp_path: Path) -> None:
    renamed, barrier = tmp_path / "renamed", fork.Barrier(4)
    assert in_child(prepare, tmp_path, fork.Barrier(1), renamed, True) == -signal.SIGKILL
    together = [fork.Process(target=prepare, args=(tmp_path, barrier, renamed, False)) for _ in range(4)]
    for process in together:
        process.start()
    for process in together:
        process.join(120)
    assert [process.exitcode for process in together] == [0, 0, 0, 0]
    assert drawing(tmp_path / "mini") == undisturbed
    times = Counter(Path(line) for line in renamed.read_text().splitlines())
    drawn = [path for path in times if path.suffix in (".avi", ".mp4", ".jpg", ".npy", ".npz")]
    copies = list((tmp_path / "copy").rglob("*.mp4"))
    assert len(copies) == len(read_manifest(tmp_path / "copy").rows) == 12
    assert {*copies, tmp_path / "mini" / "drawn.json"} < times.keys()
    assert [path for path in (*drawn, tmp_path / "mini" / "drawn.json") if times[path] > 1] == []
