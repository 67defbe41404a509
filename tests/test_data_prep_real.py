"""The numbers of the published datasets, from their real annotation files."""

import csv
import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import data_prep
from data_prep import hmdb51, pa_hmdb51, phvu, published, ucf101, vispr, vp
from spact_lib.manifest import Manifest, check, read_manifest
from spact_lib.protocols import SAME_AS_UCF101, overlapping_classes

# facts.md: of the seven attributes of VISPR1 in their order, in 10,000 training and 8,000 test images.
VISPR1_POSITIVES = {
    "train": [4710, 4625, 3484, 2789, 588, 334, 694],
    "test": [3781, 3715, 2792, 2326, 438, 253, 569],
}


@pytest.fixture(scope="module")
def annotations(shared_data: Path) -> Path:
    return shared_data / "annotations"


@pytest.fixture(scope="module")
def pa(annotations: Path) -> Manifest:
    return pa_hmdb51.prepare(Path("videos"), annotations=annotations / "pa_hmdb51")


def counts(manifest: Manifest) -> dict[str, int]:
    """Rows per split, validation counted as what it was cut from."""
    return manifest.rows["split"].replace("val", "train").value_counts().to_dict()


def prevalence(manifest: Manifest, task: str) -> np.ndarray:
    return manifest.labels(task).mean(axis=0)


@pytest.mark.parametrize(("split", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_ucf101(annotations: Path, split: int, train: int, test: int) -> None:
    manifest = ucf101.prepare(Path("videos"), split=split, lists=annotations / "ucf101")
    assert counts(manifest) == {"train": train, "test": test}
    assert manifest.tasks["action"].n_classes == 101
    check(manifest, "UCF101")
    by_split = manifest.rows.groupby("split")
    assert all(by_split.get_group(s)["action"].nunique() == 101 for s in ("train", "val", "test"))
    groups = [set(zip(*(by_split.get_group(s)[c] for c in ("action", "group")), strict=True)) for s in ("train", "val")]
    assert not groups[0] & groups[1]


@pytest.mark.parametrize("split", [1, 2, 3])
def test_hmdb51(annotations: Path, split: int) -> None:
    manifest = hmdb51.prepare(Path("videos"), split=split, lists=annotations / "hmdb51")
    assert counts(manifest) == {"train": 3570, "test": 1530, "unused": 1666}
    assert manifest.tasks["action"].n_classes == 51
    check(manifest, "HMDB51")
    train, val = (manifest.select(part).rows for part in ("train", "val"))
    assert val["action"].nunique() == 51
    assert not set(train["group"]) & set(val["group"])  # films, of which many show several actions
    assert 1 / 6 < len(val) / 3570 < 1 / 5


def test_hmdb51_without_the_videos_of_pa_hmdb51(annotations: Path, pa: Manifest) -> None:
    manifest = hmdb51.prepare(Path("videos"), lists=annotations / "hmdb51", without_pa=annotations / "pa_hmdb51")
    assert manifest.name == "hmdb51_without_pa"
    assert counts(manifest) == {"train": 3570 - 286, "test": 1530 - 130, "unused": 1666 + 286 + 130}
    tested = set(pa.rows["path"])
    used = manifest.rows["split"] != "unused"
    assert len(tested) == 515 and not tested & set(manifest.rows.loc[used, "path"])
    assert tested <= set(manifest.rows["path"])
    assert pa.tasks["action"] == manifest.tasks["action"]
    check(manifest, "HMDB51")
    lines = published.compare(manifest)
    assert [line.endswith("1,400, as computed from the official files") for line in lines] == [False, True, False]
    assert lines[0].endswith("3,284, as computed from the official files") and lines[2].endswith("51, as published")


def test_overlapping_classes_are_classes(annotations: Path) -> None:
    known = ucf101.prepare(Path("videos"), lists=annotations / "ucf101").tasks["action"].classes
    novel = hmdb51.prepare(Path("videos"), lists=annotations / "hmdb51").tasks["action"].classes
    pairs = overlapping_classes(known, novel)
    assert len(pairs) == sum(map(len, SAME_AS_UCF101.values())) == 19
    assert len({name for _, name in pairs}) == 14
    assert ("Biking", "ride_bike") in pairs
    assert overlapping_classes(["Biking"], ["ride_bike", "ride_horse"]) == [("Biking", "ride_bike")]


def test_pa_hmdb51(annotations: Path, pa: Manifest) -> None:
    check(pa, "PA-HMDB51")
    assert pa.rows["path"].nunique() == 515 and pa.rows["action"].nunique() == 51
    assert pa.tasks["action"].n_classes == 51
    values = pa_hmdb51.frame_values(pa_hmdb51.read_annotations(annotations / "pa_hmdb51"))
    assert len(values) == 52_413
    annotated = (values != "").sum().to_dict()
    assert pa.facts["annotated frames"] == 52_413 and pa.facts["frames annotated for"] == annotated
    assert pa.facts["frames that show"]["nudity (value 2)"] == (values["nudity"] == "2").sum()
    assert annotated == dict(skin_color=52_413, face=52_412, gender=52_413, nudity=52_412, relationship=52_413)
    present = 100 * ((values != "") & (values != "0")).sum() / (values != "").sum()
    assert present.round(1).tolist() == [97.2, 75.0, 98.0, 59.7, 15.7]
    assert 100 * (values["nudity"] == "2").sum() / annotated["nudity"] == pytest.approx(15.4, abs=0.05)
    assert {"1+2", "0+1"} <= set(values["gender"]) and {"2+3", "1+3", "1+2"} <= set(values["skin_color"])


def test_pa_hmdb51_per_video(pa: Manifest) -> None:
    assert (pa.rows["end"] - pa.rows["start"]).sum() == 52_411
    videos = pa_hmdb51.per_video(pa)
    assert len(videos) == 515 and videos.rows["path"].is_unique
    assert videos.labels("pa_attributes").sum(0).tolist() == [498, 418, 506, 306, 88]
    check(videos, "PA-HMDB51")
    assert videos.tasks == pa.tasks


def test_vispr(annotations: Path, tmp_path: Path) -> None:
    """The published labels of 18,000 images, put back into jsons; validation images have none there."""
    folder = annotations / "vispr"
    assert [len(vispr.read_list(folder, split)) for split in ("train", "val", "test")] == [10000, 4167, 8000]
    table = pd.read_csv(folder / "attributes.tsv", sep="\t")
    assert table["attribute_id"].tolist()[: len(vispr.ATTRIBUTES)] == list(vispr.ATTRIBUTES)
    for split in ("train", "val", "test"):
        shutil.copy(folder / f"{split}2017.txt", tmp_path)
        (tmp_path / "annotations" / f"{split}2017").mkdir(parents=True)
        labels = {}
        if split != "val":
            with open(folder / f"vispr1_labels_{split}2017.csv") as file:
                rows = csv.DictReader(file)
                assert tuple(rows.fieldnames[1:]) == vispr.VISPR1
                labels = {row["image_id"]: [a for a in vispr.VISPR1 if row[a] == "1"] for row in rows}
        for name in vispr.read_list(folder, split):
            image = Path(name).stem
            content = {"image_path": f"images/{split}2017/{image}.jpg", "labels": labels.get(image, ["a0_safe"])}
            (tmp_path / name).write_text(json.dumps(content))
    manifest = vispr.prepare(tmp_path)
    assert manifest.rows["split"].value_counts().to_dict() == {"train": 10000, "test": 8000, "val": 4167}
    for split, positives in VISPR1_POSITIVES.items():
        assert manifest.select(split).labels("vispr1").sum(0).tolist() == positives
    learned = pa_hmdb51.from_vispr(manifest)
    found = learned.select("test").labels("pa_attributes").sum(0)
    assert found[[0, 2, 3]].tolist() == [3781, 3715, 438] and found[1] <= 2792 + 2326 and found[4] <= 253 + 569
    check(learned, "VISPR")


def test_phvu(annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with zipfile.ZipFile(annotations / "hvu" / "HVU_Val_V1.0.zip") as archive:
        archive.extractall(tmp_path)
    shutil.copy(annotations / "hvu" / "HVU_Tags_Categories_V1.0.csv", tmp_path)
    caplog.set_level(logging.INFO)
    manifest = read_manifest(data_prep.prepare("phvu", tmp_path, tmp_path / "out"))
    assert counts(manifest) == {"test": 16012}
    assert [task.n_classes for task in manifest.tasks.values()] == [739, 1678, 248]
    assert [int(manifest.labels(task).any(0).sum()) for task in manifest.tasks] == [724, 1516, 248]
    assert manifest.rows["path"].is_unique
    assert "16,012 of 31,171 rows" in caplog.text and "against the paper's" not in caplog.text
    assert "no file of the 16,012 rows" in caplog.text
    selected, counted = (pd.read_csv(tmp_path / "out" / "phvu" / f"{name}.csv") for name in ("selected", "counts"))
    assert len(selected) == 16012 and set(selected["split"]) == {"test"}
    classes = {"action": 724, "object": 1516, "scene": 248}
    row = dict(split="test", clips=16012, missing=0)
    row |= {f"{name}_classes_{which}": n for name, n in classes.items() for which in ("selected", "left")}
    assert published.compare(manifest)[:2] == [
        "test csv, rows: 31,171, as published",
        "test csv, rows that the rule selects: 16,012, as published",
    ]
    assert counted.drop(columns="films").to_dict("records") == [row]
    assert (manifest.tasks["action"].n_classes, manifest.tasks["object"].n_classes) == (
        phvu.OFFICIAL_CLASSES["action"],
        phvu.OFFICIAL_CLASSES["object"],
    )


def test_phvu_training_clips(annotations: Path, tmp_path: Path) -> None:
    """The paper's number, once HVU's training csv is put beside the other one; nobody has published the list."""
    train = annotations / "hvu" / "HVU_Train_V1.0.csv"
    if not train.exists():
        pytest.skip(f"there is no {train}")
    with zipfile.ZipFile(annotations / "hvu" / "HVU_Val_V1.0.zip") as archive:
        archive.extractall(tmp_path)
    for file in (train, train.with_name("HVU_Tags_Categories_V1.0.csv")):
        (tmp_path / file.name).symlink_to(file)
    found = counts(phvu.prepare(tmp_path))
    difference = f"{found['train'] - 245_212:+,} training clips: another version of the csv file, or another selection"
    assert found == {"train": 245_212, "test": 16_012}, difference


@pytest.mark.parametrize(
    ("reader", "rows", "chance"), [(vp.prepare_ucf101, 13320, 58.2), (vp.prepare_hmdb51, 6766, 58.4)]
)
def test_vp(annotations: Path, reader, rows: int, chance: float) -> None:
    name = reader.__name__.removeprefix("prepare_")
    manifest = reader(Path("videos"), lists=annotations / name, annotations=annotations / "vp")
    assert manifest.name == f"vp_{name}" and len(manifest) == rows
    check(manifest, name)
    plain = {"ucf101": ucf101, "hmdb51": hmdb51}[name].prepare(Path("videos"), lists=annotations / name)
    assert manifest.rows.drop(columns="vp_attributes").equals(plain.rows)
    assert 100 * prevalence(manifest, "vp_attributes").mean() == pytest.approx(chance, abs=0.05)
    assert manifest.tasks["vp_attributes"].classes == pa_hmdb51.ATTRIBUTES


def test_published_numbers_are_met_or_the_difference_is_said(annotations: Path, pa: Manifest, tmp_path: Path) -> None:
    lists = annotations / "ucf101"
    for split in (1, 2, 3):
        lines = published.compare(ucf101.prepare(Path("videos"), split=split, lists=lists))
        assert len(lines) == 3 and all(line.endswith("as published") for line in lines), lines
        lines = published.compare(hmdb51.prepare(Path("videos"), split=split, lists=annotations / "hmdb51"))
        assert len(lines) == 3 and all(line.endswith("as published") for line in lines), lines
    assert [line.endswith("as published") for line in published.compare(pa)] == [True] * 4
    halved = tmp_path / "lists"
    shutil.copytree(lists, halved)
    train = halved / "trainlist01.txt"
    train.write_text("\n".join(train.read_text().splitlines()[::2]))
    first, second, _ = published.compare(ucf101.prepare(Path("videos"), lists=halved))
    assert "together 4,769, but 9,537 are published" in first and second.endswith("3,783, as published")
