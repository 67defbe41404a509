import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spact_lib import manifest as manifest_module
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task, missing_files, read_manifest, write_manifest

TABLE = """path,split,start,end,group,action:single,privacy:multi,camera
a/1.mp4,train,,,ann,wave,face|skin,left
a/2.mp4,train,10,20,ann,jump,,right
b/3.mp4,val,,,bob,wave,face,left
b/4.mp4,test,5,,bob,jump,skin,right
b/5.mp4,unused,,,bob,,,left
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(TABLE)
    return path


def read_text(path: Path, text: str) -> Manifest:
    path.write_text(text)
    return read_manifest(path)


def test_reads_a_users_table(table: Path) -> None:
    manifest = read_manifest(table)
    assert manifest.name == "mine" and manifest.root == table.parent and len(manifest) == 5
    assert manifest.tasks == {
        "action": Task("action", "single", ("jump", "wave")),
        "privacy": Task("privacy", "multi", ("face", "skin")),
    }
    assert manifest.labels("action").tolist() == [1, 0, 1, 0, -1]
    assert manifest.labels("action").dtype == np.int64
    assert manifest.labels("privacy").tolist() == [[1, 1], [0, 0], [1, 0], [0, 1], [0, 0]]
    assert manifest.labels("privacy").dtype == np.uint8
    assert manifest.rows["camera"].tolist() == ["left", "right", "left", "right", "left"]
    assert manifest.rows["start"].isna().tolist() == [True, False, True, False, True]
    assert manifest.rows.loc[1, ["start", "end"]].tolist() == [10, 20]


def test_select_keeps_the_row_order_and_counts_from_zero(table: Path) -> None:
    train = read_manifest(table).select("train")
    assert train.rows["path"].tolist() == ["a/1.mp4", "a/2.mp4"]
    assert train.rows.index.tolist() == [0, 1]
    assert read_manifest(table).select("unused").labels("action").tolist() == [-1]
    with pytest.raises(UserError, match="'training'.*train, unused, val"):
        read_manifest(table).select("training")


def test_leave_out_moves_everything_but_unused_rows(table: Path) -> None:
    manifest = read_manifest(table).leave_out("group", "ann")
    assert manifest.rows["split"].tolist() == ["test", "test", "train", "train", "unused"]
    with pytest.raises(UserError, match="group to leave out 'eve'.*ann, bob"):
        manifest.leave_out("group", "eve")
    with pytest.raises(UserError, match="column.*'trial'.*camera"):
        manifest.leave_out("trial", 1)


def test_leave_out_takes_a_number_for_a_column_of_numbers(tmp_path: Path) -> None:
    manifest = read_text(tmp_path / "a.csv", "path,split,c:single,trial\n1.avi,train,x,1\n2.avi,train,x,2\n")
    assert manifest.leave_out("trial", 2).rows["split"].tolist() == ["train", "test"]


def test_round_trip_and_move_keep_the_fingerprint(table: Path, tmp_path: Path) -> None:
    manifest = read_manifest(table)
    (tmp_path / "disk" / "media").mkdir(parents=True)
    media = Manifest(manifest.name, tmp_path / "disk" / "media", manifest.tasks, manifest.rows)
    write_manifest(media, tmp_path / "disk" / "set")
    (tmp_path / "disk").rename(tmp_path / "other")
    again = read_manifest(tmp_path / "other" / "set")
    assert again.fingerprint == manifest.fingerprint == media.fingerprint
    assert again.root.resolve() == tmp_path / "other" / "media"
    assert again.name == "mine" and again.tasks == manifest.tasks
    pd.testing.assert_frame_equal(again.rows, manifest.rows)


def test_written_bytes_do_not_change_when_read_and_written_again(table: Path, tmp_path: Path) -> None:
    first = write_manifest(read_manifest(table), tmp_path / "1")
    second = write_manifest(read_manifest(first), tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in second.parent.glob("[!.]*")) == ["manifest.csv", "tasks.json"]


def test_facts_are_kept_and_are_no_part_of_the_fingerprint(table: Path, tmp_path: Path) -> None:
    plain = read_manifest(table)
    known = replace(plain, facts={"candidates": {"test": 3}})
    again = read_manifest(write_manifest(known, tmp_path / "out"))
    assert again.facts == {"candidates": {"test": 3}} and plain.facts == {}
    assert again.fingerprint == plain.fingerprint and again.select("train").facts == again.facts


def test_killed_at_any_moment_it_leaves_the_old_the_new_or_no_dataset(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables beside belong to the manifest: one of each may never be seen together."""
    old = read_manifest(table)
    new = replace(old, rows=old.rows.iloc[::-1])
    tables = {"old": pd.DataFrame({"x": [1]}), "new": pd.DataFrame({"x": [2]})}
    moments, originals = 0, {name: getattr(manifest_module.os, name) for name in ("replace", "fsync")}
    unlink, seen = Path.unlink, set()
    while True:
        folder, left = tmp_path / str(moments), iter(range(moments))
        write_manifest(old, folder, {"beside.csv": tables["old"]})

        def killed(function, left=left):
            def call(*arguments, **options):
                if next(left, None) is None:
                    raise KeyboardInterrupt
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name, function in originals.items():
                patch.setattr(manifest_module.os, name, killed(function))
            patch.setattr(manifest_module.Path, "unlink", killed(unlink))
            try:
                write_manifest(new, folder, {"beside.csv": tables["new"]})
                finished = True
            except KeyboardInterrupt:
                finished = False
        state = "none"
        if (folder / "manifest.csv").exists():
            state = "old" if read_manifest(folder).fingerprint == old.fingerprint else "new"
            assert (folder / "beside.csv").read_text() == tables[state].to_csv(index=False)
        seen.add(state)
        assert not (folder / ".new").exists()
        if finished:
            break
        moments += 1
    assert state == "new" and seen == {"old", "none", "new"} and moments > 5
    gone: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (gone.append(path.name), unlink(path, **options)))
    write_manifest(new, tmp_path / "0", {"beside.csv": tables["old"]})
    assert "manifest.csv" not in gone  # nothing beside it changes: there is a manifest at every moment


def test_the_root_can_be_inside_or_outside(table: Path, tmp_path: Path) -> None:
    manifest = replace(read_manifest(table), root=Path("/elsewhere/media"))
    assert read_manifest(write_manifest(manifest, tmp_path / "far")).root == Path("/elsewhere/media")
    inside = replace(read_manifest(table), root=tmp_path / "in" / "media")
    write_manifest(inside, tmp_path / "in")
    shutil.copytree(tmp_path / "in", tmp_path / "deep" / "copy")
    assert read_manifest(tmp_path / "deep" / "copy").root == tmp_path / "deep" / "copy" / "media"


@pytest.mark.parametrize(
    "change",
    [("bob,wave", "bob,jump"), ("face|skin", "face"), ("a/1.mp4", "a/9.mp4"), ("10,20", "10,21"), ("right", "left")],
)
def test_any_change_of_content_changes_the_fingerprint(table: Path, change: tuple[str, str]) -> None:
    before = read_manifest(table).fingerprint
    assert read_text(table, TABLE.replace(*change, 1)).fingerprint != before


def test_the_order_of_classes_is_part_of_the_fingerprint_and_of_the_labels(table: Path) -> None:
    manifest = read_manifest(table)
    turned = manifest.tasks | {"action": Task("action", "single", ("wave", "jump"))}
    other = Manifest(manifest.name, manifest.root, turned, manifest.rows)
    assert other.fingerprint != manifest.fingerprint
    assert other.select("train").labels("action").tolist() == [0, 1]


def test_names_like_nan_and_numbers_stay_text(tmp_path: Path) -> None:
    text = "path,split,who:single,what:multi\n1.avi,train,NA,None|1\n2.avi,train,01,\n3.avi,train,1,nan\n"
    manifest = read_text(tmp_path / "a.csv", "\ufeff" + text + "\n")  # as spreadsheets save it
    assert manifest.tasks["who"].classes == ("01", "1", "NA")
    assert manifest.tasks["what"].classes == ("1", "None", "nan")


def test_whole_numbers_in_a_column_with_gaps_are_frame_numbers(table: Path) -> None:
    manifest = read_manifest(table)
    rows = manifest.rows.astype({"start": float, "end": float})
    assert Manifest("x", manifest.root, manifest.tasks, rows).fingerprint == manifest.fingerprint


def test_evaluation_only_data_needs_no_training_rows(tmp_path: Path) -> None:
    assert len(read_text(tmp_path / "a.csv", "path,split,c:single\n1.avi,test,x\n2.avi,test,y\n")) == 2


def test_missing_files_are_listed_once_and_unused_rows_need_none(table: Path) -> None:
    manifest = read_manifest(table)
    (table.parent / "a").mkdir()
    (table.parent / "a" / "1.mp4").touch()
    assert missing_files(manifest) == ["a/2.mp4", "b/3.mp4", "b/4.mp4"]


BAD_TABLES = {
    "no path": ("path,", "file,", "no column 'path'.*file, split"),
    "no split": ("split,", "part,", "no column 'split'"),
    "misspelt split": ("val,", "valid,", "line 4: split 'valid'.*train, val, test, unused"),
    "column twice": ("camera", "group", "two columns called 'group'"),
    "task twice": ("camera", "action:multi", "two columns called 'action'"),
    "task and plain column": ("camera", "action", "two columns called 'action'"),
    "misspelt kind": ("privacy:multi", "privacy:multy", "kind.*'multy'.*multi, single"),
    "unlabelled row": ("jump,,right", ",,right", "line 3: action ''.*jump, wave.*unused"),
    "class without training row": ("bob,jump", "bob,clap", "class 'clap' of task 'action' has no training row"),
    "parent folder": ("a/1.mp4", "a/../1.mp4", "line 2: path 'a/../1.mp4' must be relative"),
    "absolute path": ("a/1.mp4", "/a/1.mp4", "must be relative"),
    "absolute path of Windows": ("a/1.mp4", "C:\\a\\1.mp4", "must be relative"),
    "empty path": ("a/1.mp4", "", "line 2: path '' is empty"),
    "NUL in a path": ("a/1.mp4", "a/1\0.mp4", r"line 2: path 'a/1\\x00.mp4' has a NUL byte"),
    "empty range": ("10,20", "20,20", "line 3: end '20' is not greater than start"),
    "no frame number": ("10,20", "10,end", "end in line 3 is 'end'"),
    "negative frame number": ("10,20", "-1,20", "start in line 3 is '-1'"),
    "cell too many": ("right\n", "right,\n", "line 3: 9 cells.*8 columns"),
    "open quote": ("a/1.mp4", '"a/1.mp4', "mine.csv, line [0-9]+: not a CSV table"),
    "reserved task": ("camera", "path:single", "two columns called 'path'"),
    "nameless task": ("camera", ":single", "task cannot be called ''"),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_bad_tables_are_refused_in_one_sentence(table: Path, fault: str) -> None:
    old, new, message = BAD_TABLES[fault]
    assert old in TABLE
    with pytest.raises(UserError, match=message) as caught:
        read_text(table, TABLE.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'path'"),
        (b"path,split,c:single\n", "no rows"),
        (
            b"path;split;c:single\n1,5.avi;train;x\n",
            "a.csv is separated by ';'; save it with commas between the columns",
        ),
        (b"path\tsplit\tc:single\n1.avi\ttrain\tx\n", r"a.csv is separated by '\\t'; save it with commas"),
        (b"path,split,c\n1.avi,train,x\n", "no label column.*action:single"),
        (b"\xff\xfe\x00path", "a.csv, line 1: 0xff is no UTF-8"),
        (b"path,split,c:single\n1.avi,train,x\n2.avi,train,\xe9\n", "a.csv, line 3: 0xe9 is no UTF-8"),
        (b'path,split,c:single\n1.avi,train,x\n2.avi,train,"x\n3.avi,test,x\n', "a.csv, line 3: not a CSV table"),
    ],
)
def test_tables_without_content_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "a.csv")


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(
            UserError, match="^there is no dataset at .*csv; give a CSV file or a folder with manifest.csv$"
        ):
            read_manifest(path)


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("action", 3, "line 3: action 'jump' is a label outside the task; legal: wave"),
        ("privacy", 2, r"line 2: privacy 'face\|skin' is a label outside the task; legal: face"),
    ],
)
def test_labels_outside_the_task_are_refused(table: Path, task: str, line: int, message: str) -> None:
    folder = write_manifest(read_manifest(table), table.parent / "set").parent
    described = json.loads((folder / "tasks.json").read_text())
    for item in described["tasks"]:
        if item["name"] == task:
            item["classes"] = ["wave"] if task == "action" else ["face"]
    (folder / "tasks.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=message):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"kind": "single"', '"kind": "one"', "kind of task 'action': 'one'.*multi, single"),
        ('"kind"', '"sort"', "must hold name, root and tasks"),
        ('"wave"', '"jump"', "task 'action' needs classes, each named once"),
        ('"name": "action"', '"name": "gesture"', "no column 'gesture:single'"),
        ("{", "", "must hold name, root and tasks"),
        ("{", "[" * 100_000, "must hold name, root and tasks.*brackets are too deep"),
        ('"name": "', '"name": "../', "is no name of a folder"),
    ],
)
def test_bad_task_files_are_refused(table: Path, old: str, new: str, message: str) -> None:
    folder = write_manifest(read_manifest(table), table.parent / "set").parent
    text = (folder / "tasks.json").read_text()
    assert old in text
    (folder / "tasks.json").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_manifest(folder)


def test_a_task_that_tasks_json_does_not_list_is_refused(table: Path) -> None:
    path = write_manifest(read_manifest(table), table.parent / "set")
    path.write_text(path.read_text().replace("camera", "camera:single"))
    with pytest.raises(UserError, match="more columns as tasks than tasks.json"):
        read_manifest(path)


def test_a_faulty_manifest_is_not_written(table: Path, tmp_path: Path) -> None:
    manifest = read_manifest(table)
    rows = manifest.rows.assign(path="../x.mp4")
    with pytest.raises(UserError, match="must be relative"):
        write_manifest(Manifest("x", manifest.root, manifest.tasks, rows), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_an_unknown_task_is_named_with_the_legal_ones(table: Path) -> None:
    with pytest.raises(UserError, match="'gender'.*action, privacy"):
        read_manifest(table).labels("gender")


def test_a_quarter_of_a_million_rows_take_seconds_and_no_dense_labels(tmp_path: Path) -> None:
    n, classes = 250_000, tuple(f"object {k}" for k in range(1678))  # the size of HVU
    drawn = np.random.default_rng(0).integers(0, len(classes), (n, 5))
    rows = pd.DataFrame(
        {
            "path": [f"{i}.mp4" for i in range(n)],
            "split": "train",
            "object": ["|".join(classes[k] for k in row) for row in drawn],
        }
    )
    write_manifest(Manifest("large", tmp_path, {"object": Task("object", "multi", classes)}, rows), tmp_path)
    start = time.process_time()  # of this process alone: what runs beside it must not fail it
    manifest = read_manifest(tmp_path)
    assert time.process_time() - start < 10
    assert manifest.rows.memory_usage(deep=True).sum() < 100e6  # dense: 420 MB as bytes, 1.7 GB as floats
    few = Manifest("few", tmp_path, manifest.tasks, manifest.rows.iloc[:100]).labels("object")
    expected = np.zeros((100, len(classes)), np.uint8)
    np.put_along_axis(expected, drawn[:100], 1, axis=1)
    assert np.array_equal(few, expected)
