"""Runs that are killed at any moment, and processes that make one spec together, end as if undisturbed."""

import multiprocessing
import os
import shutil
from itertools import count
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from tiny import outcome, specs, without

from spact_lib import experiments, files, training
from spact_lib.config import FramesSpec, Spec
from spact_lib.store import Store
from spact_lib.study import Study

pytestmark = pytest.mark.usefixtures("one_cpu")


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


LEARNED = [
    *("f_A", "f_T", "f_B", "supervised f_B", "moco f_B", "spact", "moco", "tedspad", "plus", "stills", "noise"),
    *("f'_T", "f'_B", "inverse"),
]


RELEASES = ["release", "float release", "h264 release"]


@pytest.mark.parametrize("kind", ["frames", *LEARNED, *RELEASES, "test"])
def test_killed_at_any_moment_ends_as_if_undisturbed(
    finished: tuple[Study, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """All that outlives a process appears by os.replace: die before each of them in turn, and once more a bit later."""
    one, _ = finished
    spec = specs(one)[kind]
    if kind in RELEASES:
        monkeypatch.setattr(experiments, "RELEASED_AT_ONCE", 16)  # two videos
        one = without(one, one.release(one.anonymizer("spact", 0.5), one.protocol.action), tmp_path / "undisturbed")
    expected = outcome(one.store.run(spec))
    other = without(one, spec, tmp_path / "store")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    real, deaths, left = os.replace, [], 0

    def replace_or_die(source: Path, destination: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            deaths.append(Path(destination).name)
            raise Killed
        real(source, destination)

    monkeypatch.setattr(files.os, "replace", replace_or_die)
    monkeypatch.setattr(files.os, "fsync", lambda file: None)  # slow, and only for power cuts
    for moment in count():
        shutil.rmtree(other.store.folder(spec), ignore_errors=True)
        died = len(deaths)
        for survive in (moment, 1 + moment % 4, 1000):
            left = survive
            try:
                artifact = Store(other.store.root, read_only=False).run(spec)
                break
            except Killed:
                assert not (other.store.folder(spec) / "record.json").exists()
        assert outcome(artifact) == expected, f"died before {deaths[died:]}"
        if len(deaths) == died:
            break  # it was done before its time to die
    assert {"spec.json", "record.json"} <= set(deaths)
    kept = "checkpoint.pt" if kind in LEARNED else "index.part.npz"
    assert deaths.count(kept) >= 4 or kind == "test", deaths


def run_and_die(root: Path, spec: Spec, survive: int) -> None:
    training.CHECKPOINT_SECONDS = -1.0
    real = os.replace

    def replace_or_die(source: Path, destination: Path) -> None:
        nonlocal survive
        survive -= 1
        if survive < 0:
            os._exit(9)  # no exception, no clean-up: like a power cut, the lock and temporary files included
        real(source, destination)

    os.replace = replace_or_die
    Store(root, read_only=False).run(spec)


def run_and_count(root: Path, spec: Spec, barrier: multiprocessing.Barrier, made: Path) -> None:
    build = experiments.BUILDERS[type(spec)]

    def noted(*arguments: object) -> dict:
        with open(made, "a") as file:
            file.write("made\n")
        return build(*arguments)

    experiments.BUILDERS[type(spec)] = noted
    barrier.wait(60)
    Store(root, read_only=False).run(spec)


fork = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None
needs_fork = pytest.mark.skipif(fork is None, reason="needs os.fork")


@needs_fork
def test_a_process_that_vanished_leaves_no_lock_and_no_wrong_result(
    finished: tuple[Study, dict], tmp_path: Path
) -> None:
    one, _ = finished
    spec = specs(one)["spact"]
    other = without(one, spec, tmp_path / "store")
    process = fork.Process(target=run_and_die, args=(other.store.root, spec, 6))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    folder = other.store.folder(spec)
    assert (folder / "checkpoint.pt").exists() and not (folder / "record.json").exists()
    assert list(folder.glob(".*.tmp*"))  # the half of a file that it leaves disturbs nobody
    assert outcome(other.store.run(spec)) == outcome(one.store.run(spec))
    assert not list(folder.glob(".*"))


@needs_fork
def test_two_processes_make_a_spec_once(finished: tuple[Study, dict], tmp_path: Path) -> None:
    one, _ = finished
    spec = specs(one)["f_A"]
    other, made = without(one, spec, tmp_path / "store"), tmp_path / "made"
    barrier = fork.Barrier(2)
    processes = [fork.Process(target=run_and_count, args=(other.store.root, spec, barrier, made)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert made.read_text() == "made\n"
    assert outcome(other.store.run(spec)) == outcome(one.store.run(spec))


def test_a_spec_in_the_making_is_locked(
    finished: tuple[Study, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, _ = finished
    spec = specs(one)["frames"]
    other = without(one, spec, tmp_path / "store")

    def build(spec: Spec, folder: Path, store: Store) -> dict:
        with pytest.raises(Timeout):
            FileLock(f"{folder}.lock", is_singleton=False).acquire(timeout=0)
        return {}

    monkeypatch.setitem(experiments.BUILDERS, FramesSpec, build)
    other.store.run(spec)
