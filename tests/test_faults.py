"""Processes that die, disks that are full or read-only, several processes that want the same: what is finished stays,
and the same command ends as if nothing had happened. (What trains, killed at every moment: test_killed_runs.py.)"""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import nbformat
import pytest
import tiny
from nbformat.v4 import new_code_cell, new_notebook
from test_filework import here as here  # a fixture
from tiny import outcome, specs, targets

from spact_lib import experiments, notebooks, results, training
from spact_lib.config import Schedule, Spec, View, profile
from spact_lib.decode_cache import build_cache
from spact_lib.errors import UserError
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.packed import PackedFrames
from spact_lib.results import keep_records
from spact_lib.store import Artifact, Store
from spact_lib.study import Study

pytestmark = pytest.mark.usefixtures("one_cpu")

VIEW = View(stored_side=16, size=16, n_frames=4, stride=1, crop=(0.8, 1.0), test_crop=1.0, flip=0.0, test_clips=1)
SHORT = Schedule(steps=2, batch=4, lr=1e-3)
PARTS = ("init_f_A", "init_f_T", "init_f_B", "minimax", "target_action", "target_privacy")
TINY = profile(
    "smoke", action_view=VIEW, privacy_view=VIEW.frames(), width=2, evaluations=1, **dict.fromkeys(PARTS, SHORT)
)


study = partial(tiny.study, profile=TINY)


@pytest.fixture(scope="module")
def spact_row(tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """SPAct's row, undisturbed."""
    one = study(tiny_csv, tmp_path_factory.mktemp("finished"))
    targets(one, "spact")
    return one


def whole_store(root: Path) -> dict[str, dict[str, object]]:
    folders = [path.parent for path in root.glob("*/*/record.json")]
    found = {f: outcome(Artifact(json.loads((f / "record.json").read_text()), f)) for f in folders}
    return {f"{folder.parent.name}/{folder.name}": made for folder, made in found.items()}


# --- the same twice ---


def test_the_same_specs_twice_give_the_same_weights_and_records(
    spact_row: Study, tiny_csv: Path, tmp_path: Path
) -> None:
    again = study(tiny_csv, tmp_path)
    targets(again, "spact")
    one, other = whole_store(spact_row.store.root), whole_store(again.store.root)
    assert one.keys() == other.keys() and len(one) >= 8
    assert all(one[key] == other[key] for key in one)
    weights = [name for made in one.values() for name in made if name.endswith(".safetensors")]
    assert {"f_A.safetensors", "f_T.safetensors", "f_B.safetensors", "network.safetensors"} <= set(weights)


# --- killed at a named point ---


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


@contextmanager
def dying(here: Callable[[list[str]], object]) -> Iterator[list[str]]:
    """Within: the process dies before the first rename at which ``here(the names renamed to, this one last)`` holds;
    the list gets these names."""
    real, seen = os.replace, []

    def replace_or_die(source: Path, target: Path) -> None:
        seen.append(Path(target).name)
        if here(seen):
            if (source := Path(source)).is_file():  # a half that stays where it was written
                half = source.read_bytes()[: source.stat().st_size // 2]
                stem = Path(target).stem  # as ``files.atomic_path`` names it
                source.with_name(f".{stem}.0123abcd.tmp{source.suffix}").write_bytes(half)
            raise Killed
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        yield seen


def killed_everywhere(make: Callable[[Path], object], look: Callable[[Path], object], root: Path) -> set[str]:
    """Kill ``make(folder)`` before each of its renames in turn; then it must end as undisturbed. The renames seen."""
    make(root / "undisturbed")
    expected, names = look(root / "undisturbed"), set()
    for moment in count():
        folder = root / str(moment)
        with dying(lambda seen, moment=moment: len(seen) > moment) as seen:
            try:
                make(folder)
                break
            except Killed:
                names.add(seen[-1])
        make(folder)
        assert look(folder) == expected, f"died before {seen}"
    assert look(folder) == expected
    return names


def test_records_survive_a_death_before_every_rename(spact_row: Study, tmp_path: Path) -> None:
    records = spact_row.store.used

    def keep(folder: Path) -> None:
        keep_records(dict(list(records.items())[:2]), folder, "04_table1")
        keep_records(records, folder, "04_table1")

    def look(folder: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.glob("[!.]*")}

    assert killed_everywhere(keep, look, tmp_path) == {"04_table1.jsonl", "data.json"}
    with dying(lambda seen: len(seen) > 1), pytest.raises(Killed):
        keep_records({}, tmp_path / "0", "04_table1")
    assert look(tmp_path / "0") == look(tmp_path / "undisturbed")  # what was there is there, whole
    assert list((tmp_path / "0").glob(".*.0123abcd.tmp.jsonl"))
    assert set(results._committed(tmp_path / "0")) == set(records)  # and is read; the half is not


def test_a_decode_cache_survives_a_death_before_every_rename(tiny_csv: Path, tmp_path: Path, here: None) -> None:
    def build(folder: Path) -> None:
        build_cache(tiny_csv, folder, short_side=16)

    def look(folder: Path) -> dict[str, bytes]:
        found = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".mp4", ".csv")]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    names = killed_everywhere(build, look, tmp_path)
    assert {"00.avi.mp4", "10.avi.mp4", "problems.csv", "cache.json", "tasks.json", "manifest.csv"} <= names


def test_a_notebook_survives_a_death_before_its_rename(tmp_path: Path) -> None:
    cells = [new_code_cell("SEED = 0"), new_code_cell("print('trained')")]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path := tmp_path / "00_tiny.ipynb")
    output = tmp_path / "runs" / path.name

    def promoted(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        if not (copy := folder / path.name).exists():
            copy.write_bytes(path.read_bytes())
        notebooks.promote(output, copy)

    # papermill saves the unfinished copy as it goes, by other means than a rename.
    with dying(bool) as seen, pytest.raises(Killed):
        notebooks.run_notebook(path, output, {})
    assert seen == [path.name] and not output.exists() and notebooks.unfinished(output).exists()
    notebooks.run_notebook(path, output, {})
    assert output.exists() and not notebooks.unfinished(output).exists()
    assert killed_everywhere(promoted, lambda folder: (folder / path.name).read_text(), tmp_path) == {path.name}


def release_and_die(root: Path, spec: Spec) -> None:
    experiments.RELEASED_AT_ONCE, training.CHECKPOINT_SECONDS = 16, -1.0
    real, seen = experiments.to_uint8, []

    def die_at_the_third(frames: object) -> object:
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(frames)

    experiments.to_uint8 = die_at_the_third
    Store(root, read_only=False).run(spec)


fork = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None
needs_fork = pytest.mark.skipif(fork is None, reason="needs os.fork")


def in_child(function: Callable, *arguments: object) -> int:
    process = fork.Process(target=function, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


@needs_fork
def test_a_killed_release_is_continued(
    spact_row: Study, tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [shutil.copytree(spact_row.store.root, tmp_path / name) for name in ("undisturbed", "killed")]
    whole, other = (study(tiny_csv, store) for store in stores)
    spec = other.release(other.anonymizer("spact", 0.5), other.protocol.action)
    for each in (whole, other):
        shutil.rmtree(each.store.folder(spec))
    monkeypatch.setattr(experiments, "RELEASED_AT_ONCE", 16)
    made = outcome(whole.store.run(spec))
    assert in_child(release_and_die, other.store.root, spec) == -signal.SIGKILL
    folder, done = other.store.folder(spec), []
    assert {path.name for path in folder.iterdir()} == {"spec.json", "frames.bin.part", "index.part.npz"}
    real = experiments.to_uint8
    monkeypatch.setattr(experiments, "to_uint8", lambda frames: done.append(len(frames)) or real(frames))
    assert outcome(other.store.run(spec)) == made
    assert sum(done) < PackedFrames(folder).index[:, 1].sum()  # not all of it again
    assert {path.name for path in folder.iterdir()} == {"spec.json", "frames.bin", "index.npy", "record.json"}


# --- several processes at once ---


def whole_row(csv: Path, root: Path, barrier: multiprocessing.Barrier, made: Path, dies: bool) -> None:
    def noted(build: Callable) -> Callable:
        def build_and_note(spec: Spec, folder: Path, store: Store) -> dict:
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)  # with the lock in its hand
            metrics = build(spec, folder, store)
            with open(made, "a") as file:
                file.write(f"{spec.kind}/{spec.key()}\n")
            return metrics

        return build_and_note

    experiments.BUILDERS |= {kind: noted(build) for kind, build in experiments.BUILDERS.items()}
    one = study(csv, root)
    barrier.wait(60)
    targets(one, "spact")
    keep_records(one.store.used, root.parent / "records", "04_table1")


@needs_fork
def test_four_processes_make_everything_once_and_wait_for_no_dead_one(
    spact_row: Study, tiny_csv: Path, tmp_path: Path
) -> None:
    made, barrier = tmp_path / "made", fork.Barrier(4)
    assert in_child(whole_row, tiny_csv, tmp_path / "store", fork.Barrier(1), made, True) == -signal.SIGKILL
    together = [
        fork.Process(target=whole_row, args=(tiny_csv, tmp_path / "store", barrier, made, False)) for _ in range(4)
    ]
    for process in together:
        process.start()
    for process in together:
        process.join(240)
    assert [process.exitcode for process in together] == [0, 0, 0, 0]
    built = made.read_text().split()
    assert sorted(built) == sorted(set(built)), "something was made twice"
    assert whole_store(tmp_path / "store") == whole_store(spact_row.store.root)
    kept = [json.loads(line)["key"] for line in (tmp_path / "records" / "04_table1.jsonl").read_text().splitlines()]
    assert len(set(kept)) == len(kept) > 0 and set(kept) <= spact_row.store.used.keys()


def catalogue(folder: Path, barrier: multiprocessing.Barrier, k: int) -> None:
    barrier.wait(60)
    for n in range(10):
        keep_records({f"{k}{n}": {"key": "", "spec": {"name": f"data{k}-{n}", "fingerprint": "f"}}}, folder, f"t{k}")


@needs_fork
def test_two_processes_that_add_to_the_catalogue_lose_nothing(tmp_path: Path) -> None:
    barrier = fork.Barrier(2)
    both = [fork.Process(target=catalogue, args=(tmp_path, barrier, k)) for k in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert len(json.loads((tmp_path / "data.json").read_text())) == 20


# --- disks ---


@contextmanager
def file_size_limit(n: int) -> Iterator[None]:
    """Within: no file of this process grows beyond ``n`` bytes. What a full disk is to a writer, without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount (again) a disk of its own; skipped where this is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("mounting a disk is not allowed here")
        return folder

    yield mount
    while subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0:
        pass


def parts(one: Study) -> dict[str, Spec]:
    """A spec of every kind that trains or packs, in the order of its making."""
    found = specs(one)
    made = {name: found[name] for name in ("frames", "f_A", "f_T", "f_B", "spact", "release")}
    return made | {"target": found["f'_T"]}


SENTENCE = "^cannot write .*: {}; make room or make it writable, .*what was finished before is kept"


@pytest.mark.parametrize("last", ["frames", "f_A", "f_T", "f_B", "spact", "release", "target"])
def test_no_room_is_a_sentence_and_leaves_what_was_there(
    spact_row: Study, tiny_csv: Path, tmp_path: Path, last: str
) -> None:
    one = study(tiny_csv, tmp_path)
    for name, spec in parts(one).items():
        if name == last:
            break
        one.store.run(spec)
    before = whole_store(tmp_path)
    with file_size_limit(20_000), pytest.raises(UserError, match=SENTENCE.format("File too large")):
        one.store.run(spec)
    assert whole_store(tmp_path) == before
    assert outcome(one.store.run(spec)) == outcome(spact_row.store.run(spec))


def test_a_full_disk_is_a_sentence_and_the_command_continues_when_there_is_room(
    spact_row: Study, tiny_csv: Path, disk: Callable[[str], Path]
) -> None:
    root, size = disk("size=100k"), 100.0  # kB
    one, refused = study(tiny_csv, root), 0
    while True:
        try:
            targets(one, "spact")
            break
        except UserError as error:
            assert re.match(SENTENCE.format("No space left on device"), str(error))
            refused += 1
            size *= 1.3
            disk(f"remount,size={size:.0f}k")
    assert refused > 5 and whole_store(root) == whole_store(spact_row.store.root)


def test_a_read_only_disk_gives_what_is_finished_and_says_why_it_makes_nothing(
    tiny_csv: Path, disk: Callable[[str], Path]
) -> None:
    root = disk("size=20m")
    one = study(tiny_csv, root / "store")
    made = one.store.run(one.init_f_A)
    disk("remount,ro")
    again = study(tiny_csv, root / "store")
    assert outcome(again.store.run(again.init_f_A)) == outcome(made)
    again.store.load_anonymizer(again.init_f_A)
    with pytest.raises(UserError, match=SENTENCE.format("Read-only file system")):
        again.store.run(again.init_f_T())
    with pytest.raises(UserError, match=SENTENCE.format("Read-only file system")):
        keep_records(again.store.used, root / "records", "04_table1")


def test_a_command_on_a_read_only_disk_ends_with_the_sentence(disk: Callable[[str], Path]) -> None:
    root = disk("size=1m,ro")
    command = [sys.executable, "-m", "spact_lib", "prepare", "mini", "--scale", "smoke", "--out", str(root / "mini")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("spact: error: cannot write ") and "Read-only file system" in done.stderr


# --- numbers ---


def test_a_collapsed_f_A_is_said_and_recorded(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = study(tiny_csv, tmp_path)
    spec = one.anonymizer("spact", 0.5)
    healthy = one.store.run(spec).metrics
    assert not healthy["collapsed"] and healthy["spread"] > 0.02 and not caplog.records
    decode = Anonymizer.decode
    monkeypatch.setattr(Anonymizer, "decode", lambda self, features: 0.5 + 1e-4 * decode(self, features))
    gray = spec.model_copy(update={"omega": 0.6})
    assert one.store.run(gray).metrics["collapsed"] is True
    assert "f_A of minimax nt_xent has collapsed: it gives all frames nearly the same pixels" in caplog.text
