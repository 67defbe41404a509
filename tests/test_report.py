"""Reports of datasets: counts and chance lines against slow ones, and every kind of fault found in broken files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spact_lib.dataset_report import beside, describe, media_table, write_report
from spact_lib.manifest import Manifest, Task, read_manifest
from spact_lib.metrics import multi_label_metrics
from spact_lib.video import write_video


def clip(path: Path, frames: int = 8, fps: float = 10, seed: int = 0) -> None:
    pictures = np.random.default_rng(seed).integers(0, 255, (frames, 16, 24, 3), dtype=np.uint8)
    write_video(path, pictures, fps, "mpeg4")


def problems(dataset: Path) -> dict[str, list[str]]:
    table = pd.read_csv(beside(dataset, "problems.csv"))
    return {kind: part["path"].tolist() for kind, part in table.groupby("problem")}


def test_a_sound_csv(tiny_csv: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_csv.parent, tmp_path / "own")
    texts: list[str] = []
    report = write_report(folder / "tiny.csv", texts.append)
    assert report["rows"] == {"train": 6, "val": 2, "test": 3, "unused": 1}
    assert report["tasks"]["action"]["splits"]["test"]["chance"]["top1"] == pytest.approx(200 / 3)
    media = report["media"]
    assert (media["files"], media["present"], media["problems"]) == (11, 11, {})
    assert media["videos"]["codecs"] == {"mpeg4": 11} and media["videos"]["sizes"] == {"24x20": 11}
    assert (media["videos"]["frames"]["0"], media["videos"]["frames"]["100"]) == (7, 9)
    assert json.loads((folder / "tiny.report.json").read_text()) == report
    assert "tiny: 6 train, 2 val, 3 test, 1 unused; tasks: action (single, 2), attributes (multi, 2)" in texts[0]
    assert "chance top-1 50.0 / 50.0 / 66.7 % (train / val / test, over 6 / 2 / 3 rows); in test: right" in texts[0]
    assert "no file is missing, unreadable, wrongly encoded" in texts[1]
    assert write_report(folder / "tiny.csv")["media"]["newly_probed"] == 0


def test_every_fault_is_counted_and_listed(tmp_path: Path) -> None:
    for n, name in enumerate(["a", "b", "short", "single", "fast"]):
        clip(tmp_path / f"{name}.avi", {"single": 1}.get(name, 8), {"fast": 600}.get(name, 10), seed=n)
    clip(tmp_path / "named.mkv", seed=9)
    (tmp_path / "named.mkv").rename(tmp_path / "named.mp4")
    shutil.copy(tmp_path / "a.avi", tmp_path / "again.avi")
    shutil.copy(tmp_path / "b.avi", tmp_path / "leak.avi")
    whole = (tmp_path / "short.avi").read_bytes()
    (tmp_path / "zero.avi").touch()
    (tmp_path / "cut.avi").write_bytes(whole[:200])
    listed = ["a", "b", "again", "single", "fast", "zero", "cut", "gone", "lost"]
    lines = ["path,split,end,x:single", *(f"{name}.avi,train,,c" for name in listed), "named.mp4,train,,c"]
    lines += ["short.avi,train,99,c", "leak.avi,test,,c", "a.avi,val,,c"]
    (tmp_path / "my.csv").write_text("\n".join(lines) + "\n")
    report = write_report(tmp_path / "my.csv")
    assert problems(tmp_path / "my.csv") == {
        "missing": ["gone.avi", "lost.avi"],
        "unreadable": ["zero.avi", "cut.avi"],
        "wrongly encoded": ["single.avi", "fast.avi", "named.mp4"],
        "shorter than its rows": ["short.avi"],
        "in several splits": ["a.avi"],
        "same content in several splits": ["a.avi", "again.avi", "b.avi", "leak.avi"],
    }
    assert report["media"]["problems"]["missing"] == {"files": 2, "first": ["gone.avi", "lost.avi"]}
    details = pd.read_csv(tmp_path / "my.problems.csv").set_index("path")["detail"]
    assert details["named.mp4"] == "its suffix says mov, it holds matroska"
    assert details["short.avi"] == "a row ends at frame 99, the file has 8"
    assert details["leak.avi"] == "the bytes of b.avi (train)"


def test_ten_percent_missing_is_told_with_the_first_names(tmp_path: Path) -> None:
    for n in range(18):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.png")
    lines = ["path,split,x:single", *(f"{n}.png,{'train' if n % 2 else 'test'},c" for n in range(20))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    texts: list[str] = []
    report = write_report(tmp_path, texts.append)
    assert report["media"]["stills"]["files"] == 18 and "frames" not in report["media"]["stills"]
    assert "media: 18 of 20 files" in texts[1] and "missing: 2 (10.0 %): 18.png, 19.png" in texts[1]
    assert problems(tmp_path) == {"missing": ["18.png", "19.png"]}


def test_rows_that_are_set_aside_are_counted_and_chance_says_what_it_is_over(tmp_path: Path) -> None:
    """Two of five test files and one of two training files are not there, as P-HVU's reader marks them."""
    lines = ["path,split,x:multi,missing_from"]
    for n, (split, label) in enumerate([("train", "a"), ("train", "b"), *[("test", cell) for cell in "aabbc"]]):
        missing = n in (1, 5, 6)
        lines.append(f"{n}.png,{'unused' if missing else split},{label},{split if missing else ''}")
        if not missing:
            Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.png")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    tasks = {"name": "d", "root": ".", "tasks": [{"name": "x", "kind": "multi", "classes": ["a", "b", "c"]}]}
    tasks["facts"] = {"x": "to be confirmed", "seen": {"test": 9999}}
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    texts: list[str] = []
    report = write_report(tmp_path, texts.append)
    assert report["rows"] == {"train": 1, "test": 3, "unused": 3}
    assert report["selected"] == {"train": 2, "test": 5} and report["set_aside"] == {"train": 1, "test": 2}
    task = report["tasks"]["x"]
    assert task["splits"]["test"]["positives"] == {"a": 2, "b": 1, "c": 0}
    assert task["selected"]["test"]["positives"] == {"a": 2, "b": 2, "c": 1}
    assert (task["splits"]["test"]["classes_present"], task["selected"]["test"]["classes_present"]) == (2, 3)
    assert report["media"]["splits"]["test"] == {"selected": 5, "on disk": 3, "missing": 2}
    assert (report["media"]["files"], report["media"]["present"]) == (7, 4)
    for said in (
        "selected: 2 train, 5 test; not on disk, and set aside as unused: 1 train, 2 test",
        "(train / test, over 1 / 3 rows on disk)",
        "x, over all selected: chance",
        "(train / test, over 2 / 5 selected rows)",
        "    x: to be confirmed\n    seen: test 9,999\n",
    ):
        assert said in texts[0]
    assert "test files: selected 5, on disk 3, missing 2" in texts[1]
    assert problems(tmp_path) == {"missing": ["1.png", "5.png", "6.png"]}


def test_datasets_of_the_same_files_are_probed_once(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for n in range(3):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / "media" / f"{n}.png")
    table = "path,split,x:single\n0.png,train,c\n1.png,train,c\n2.png,test,c\n"
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_text(table)
        tasks = {"name": name, "root": "../media", "tasks": [{"name": "x", "kind": "single", "classes": ["c"]}]}
        (tmp_path / name / "tasks.json").write_text(json.dumps(tasks))
    assert [write_report(tmp_path / name)["media"]["newly_probed"] for name in ("other", "one", "other")] == [3, 0, 0]
    assert not (tmp_path / "one" / "probes.jsonl").exists()
    (tmp_path / "other" / "tasks.json").write_text(json.dumps(tasks | {"root": str(tmp_path)}))
    assert write_report(tmp_path / "one")["media"]["newly_probed"] == 3


@pytest.mark.parametrize("described", ["{", "[]", '{"root": 3}', b"\xff", None])
def test_a_broken_dataset_beside_it_does_not_stop_a_report(tmp_path: Path, described: str | bytes | None) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "manifest.csv").write_text("path,split,x:single\na.avi,train,c\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "probes.jsonl").touch()
    if described is None:
        (other / "tasks.json").mkdir()
    else:
        (other / "tasks.json").write_bytes(described if isinstance(described, bytes) else described.encode())
    assert write_report(tmp_path / "one")["rows"] == {"train": 1}
    assert (other / "probes.jsonl").read_bytes() == b""


def test_a_manifest_that_was_just_read_is_not_read_again(tiny_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(tiny_csv)
    monkeypatch.setattr("spact_lib.dataset_report.read_manifest", lambda path: pytest.fail("it was read again"))
    texts: list[str] = []
    report = write_report(tiny_csv, texts.append, (manifest, 12.34))
    assert report["rows"]["train"] == 6 and set(report["seconds"]) == {"reading", "labels", "probing"}
    assert report["seconds"]["reading"] == 12.3 and "took: reading 12.3 s, labels" in texts[1]


def test_without_any_file_it_is_a_report_of_the_annotations(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("path,split,x:multi\na.mp4,test,red|blue\nb.mp4,test,\n")
    texts: list[str] = []
    report = write_report(tmp_path / "my.csv", texts.append)
    splits = {"test": {"selected": 2, "on disk": 0, "missing": 2}}
    assert report["media"] == {"files": 2, "present": 0, "newly_probed": 0, "splits": splits, "problems": {}}
    assert "test files: selected 2, on disk 0, missing 2" in texts[1]
    assert "none of the 2 files" in texts[1] and "annotations alone" in texts[1]
    assert report["tasks"]["x"]["together"]["counts"] == [[1, 1], [1, 1]]


def test_chance_lines_are_those_of_the_metrics() -> None:
    import torch

    rng = np.random.default_rng(0)
    labels = rng.random((60, 5)) < [0.5, 0.3, 0.1, 0.02, 0]
    classes = tuple("abcde")
    cells = ["|".join(np.array(classes)[row]) for row in labels]
    rows = pd.DataFrame({"path": [f"{n}" for n in range(60)], "split": "test", "x": cells})
    found = describe(Manifest("d", Path("."), {"x": Task("x", "multi", classes)}, rows))["tasks"]["x"]
    metrics = multi_label_metrics(torch.rand(60, 5), torch.from_numpy(labels))
    test = found["splits"]["test"]
    assert test["chance"]["cmap"] == pytest.approx(metrics["cmap_chance"])
    assert test["chance"]["f1"] == pytest.approx(metrics["f1_chance"])
    assert test["classes_present"] == metrics["n_classes"]
    assert list(test["positives"].values()) == labels.sum(0).tolist()
    together = labels.T.astype(int) @ labels
    assert np.array_equal(found["together"]["counts"], together)


def test_a_tag_that_stands_twice_in_a_row_counts_once(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("path,split,tags:multi\na.mp4,train,x|x\nb.mp4,train,y\n")
    train = describe(read_manifest(tmp_path / "tags.csv"))["tasks"]["tags"]["splits"]["train"]
    assert train["positives"] == {"x": 1, "y": 1}


def test_ranges_are_counted_in_frames_too() -> None:
    rows = pd.DataFrame({"path": ["v", "v"], "split": "test", "start": [0, 30], "end": [30, 40], "x": ["a", "b"]})
    report = describe(Manifest("d", Path("."), {"x": Task("x", "single", ("a", "b"))}, rows))
    assert (report["rows"], report["files"], report["frames"]) == ({"test": 2}, {"test": 1}, {"test": 40})
    test = report["tasks"]["x"]["splits"]["test"]
    assert (test["chance"]["top1"], test["frames"]["chance"]["top1"]) == (50, 75)


def test_real_clips_in_several_codecs(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "clips" / "misc").glob("*.*"))
    lines = ["path,split,x:single", *(f"{path.name},train,c" for path in files)]
    (tmp_path / "misc.csv").write_text("\n".join(lines) + "\n")
    for path in files:
        shutil.copy(path, tmp_path)
    media = write_report(tmp_path / "misc.csv")["media"]
    assert media["problems"] == {} and sum(media["videos"]["codecs"].values()) == len(files) == 6
    assert media_table({"misc": {"media": media}, "none": {"media": {}}}).loc[("misc", "videos"), "files"] == 6


def test_reading_the_manifest_is_all_that_the_fingerprint_depends_on(tiny_csv: Path) -> None:
    before = read_manifest(tiny_csv).fingerprint
    assert write_report(tiny_csv)["fingerprint"] == before == read_manifest(tiny_csv).fingerprint
