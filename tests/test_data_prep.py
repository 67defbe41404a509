"""The readers of the official layouts: on the real annotation files, and on broken ones."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import data_prep
from data_prep import hmdb51, pa_hmdb51, phvu, ucf101, vispr
from data_prep.official import cut_validation
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, check


def counts(manifest: Manifest) -> dict[str, int]:
    """Rows per split, validation counted as what it was cut from."""
    return manifest.rows["split"].replace("val", "train").value_counts().to_dict()


@pytest.mark.parametrize(("split", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_ucf101_official_lists(shared_data: Path, split: int, train: int, test: int) -> None:
    manifest = ucf101.prepare(Path("videos"), split=split, lists=shared_data / "annotations" / "ucf101")
    assert counts(manifest) == {"train": train, "test": test}
    assert manifest.tasks["action"].n_classes == 101
    check(manifest, "UCF101")
    by_split = manifest.rows.groupby("split")
    assert all(by_split.get_group(s)["action"].nunique() == 101 for s in ("train", "val", "test"))
    groups = [set(zip(*(by_split.get_group(s)[c] for c in ("action", "group")), strict=True)) for s in ("train", "val")]
    assert not groups[0] & groups[1]


def test_hmdb51_official_split_files(shared_data: Path) -> None:
    manifest = hmdb51.prepare(Path("videos"), lists=shared_data / "annotations" / "hmdb51")
    assert counts(manifest) == {"train": 3570, "test": 1530, "unused": 1666}
    assert manifest.tasks["action"].n_classes == 51
    check(manifest, "HMDB51")
    assert manifest.select("val").rows["action"].nunique() == 51


def test_pa_hmdb51_official_annotations(shared_data: Path) -> None:
    manifest = pa_hmdb51.prepare(Path("videos"), annotations=shared_data / "annotations" / "pa_hmdb51")
    check(manifest, "PA-HMDB51")
    rows = manifest.rows
    assert rows["path"].nunique() == 515
    assert rows["action"].nunique() == 51
    # Chance cMAP over frames is the mean prevalence, for so many frames: 69.1, and 60.2 if nudity means value 2.
    frames = (rows["end"] - rows["start"]).to_numpy(float)
    present = manifest.labels("pa_attributes")
    assert 100 * np.average(present, axis=0, weights=frames).mean() == pytest.approx(69.1, abs=0.1)
    present[:, 3] = rows["nudity_value"] == "2"
    assert 100 * np.average(present, axis=0, weights=frames).mean() == pytest.approx(60.2, abs=0.1)


def test_phvu_official_validation_csv(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "annotations" / "hvu"
    zipfile.ZipFile(source / "HVU_Val_V1.0.zip").extractall(tmp_path)
    (tmp_path / "HVU_Tags_Categories_V1.0.csv").write_bytes((source / "HVU_Tags_Categories_V1.0.csv").read_bytes())
    manifest = phvu.prepare(tmp_path)
    assert counts(manifest) == {"test": 16012}
    assert [task.n_classes for task in manifest.tasks.values()] == [739, 1678, 248]
    assert [int(manifest.labels(task).any(0).sum()) for task in manifest.tasks] == [724, 1516, 248]
    assert manifest.rows["path"].is_unique


def test_vispr_official_lists(shared_data: Path) -> None:
    folder = shared_data / "annotations" / "vispr"
    assert [len(vispr.read_list(folder, split)) for split in ("train", "val", "test")] == [10000, 4167, 8000]
    known = (folder / "attributes.tsv").read_text()
    assert all(f"\t{attribute}\t" in known for attribute in vispr.VISPR1 + vispr.VISPR2)
    header = (folder / "vispr1_labels_test2017.csv").read_text().splitlines()[0]
    assert tuple(header.split(",")[1:]) == vispr.VISPR1


def segments(**changed: list) -> dict[str, list]:
    return {**{a: [[0, 9, 0]] for a in pa_hmdb51.ATTRIBUTES}, **changed}


def annotations(folder: Path, content: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "wave.json").write_text(json.dumps(content))
    return folder


def test_pa_hmdb51_cuts_at_every_boundary_and_drops_what_is_not_fully_annotated(tmp_path: Path) -> None:
    content = segments(face=[[0, 3, 2], [4, 9, 0]], gender=[[2, 9, [1, 2]]], nudity=[[0, 6, 1]])
    manifest = pa_hmdb51.prepare(tmp_path, annotations=annotations(tmp_path / "a", {"x.avi": content}))
    found = manifest.rows[["start", "end", "pa_attributes", "gender_value"]].to_numpy().tolist()
    assert found == [[2, 4, "face|gender|nudity", "1+2"], [4, 7, "gender|nudity", "1+2"]]
    assert manifest.rows["path"].unique().tolist() == ["wave/x.avi"]


@pytest.mark.parametrize(
    "broken",
    [{"face": None}, {"face": [[0, 9]]}, {"face": [[0, 9, "1"]]}, {"face": [[9, 0, 1]]}, {"face": [[0, 9, []]]}],
)
def test_pa_hmdb51_refuses_what_is_no_segment(tmp_path: Path, broken: dict) -> None:
    folder = annotations(tmp_path / "a", {"x.avi": segments(**broken)})
    with pytest.raises(UserError, match=r"wave\.json, video 'x\.avi': face"):
        pa_hmdb51.prepare(tmp_path, annotations=folder)


def ucf(root: Path, **files: str) -> Path:
    content = {
        "classInd": "1 Run\n2 Sit\n",
        "trainlist01": "".join(f"{c}/v_{c}_g{g:02}_c01.avi {n}\n" for n, c in [(1, "Run"), (2, "Sit")] for g in (8, 9)),
        "testlist01": "Run/v_Run_g01_c01.avi\nSit/v_Sit_g01_c01.avi\n",
    }
    folder = root / "ucfTrainTestlist"
    folder.mkdir(parents=True)
    for name, text in {**content, **files}.items():
        (folder / f"{name}.txt").write_text(text)
    return root


def test_prepare_writes_a_manifest(tmp_path: Path) -> None:
    path = data_prep.prepare("ucf101", ucf(tmp_path / "official"), tmp_path / "out")
    assert path == tmp_path / "out" / "ucf101" / "manifest.csv"
    assert path.exists()


def test_unknown_dataset_names_the_legal_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown dataset 'ucf'; choose one of: hmdb51, pa_hmdb51, phvu, ucf101, vispr"):
        data_prep.prepare("ucf", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"classInd": "1 Run\nSit\n"}, r"classInd\.txt, line 2: 'Sit'"),
        ({"trainlist01": "Run/v_Run_g08_c01.avi 2\n"}, r"trainlist01\.txt, line 1: .*v_Run_g08"),
        ({"trainlist01": "\nHop/v_Hop_g08_c01.avi 1\n"}, r"trainlist01\.txt, line 2"),
        ({"testlist01": "Run/run.avi\n"}, r"testlist01\.txt, line 1"),
    ],
)
def test_ucf101_names_file_and_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ucf101.prepare(ucf(tmp_path, **files))


def test_missing_official_files_say_where_to_unpack_them(tmp_path: Path) -> None:
    for module in (ucf101, hmdb51, pa_hmdb51, vispr, phvu):
        with pytest.raises(UserError, match="unpack the official"):
            module.prepare(tmp_path)
    with pytest.raises(UserError, match="unknown split of UCF101 '4'"):
        ucf101.prepare(tmp_path, split=4)


def test_hmdb51_names_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "testTrainMulti_7030_splits"
    folder.mkdir()
    (folder / "wave_test_split1.txt").write_text("a_wave_u_1.avi 1 \nb_wave_u_1.avi 3 \n")
    with pytest.raises(UserError, match=r"wave_test_split1\.txt, line 2: 'b_wave_u_1\.avi 3'"):
        hmdb51.prepare(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train2017.txt", "annotations/train2017/1.json\nimages/2.jpg\n", r"train2017\.txt, line 2: 'images/2\.jpg'"),
        ("annotations/train2017/1.json", "{", r"1\.json as JSON"),
        ("annotations/train2017/1.json", '{"labels": []}', r"1\.json lacks 'image_path'"),
        ("annotations/train2017/1.json", "[]", r"1\.json holds a JSON list"),
    ],
)
def test_vispr_names_the_file(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / "annotations" / "train2017").mkdir(parents=True)
    (tmp_path / "train2017.txt").write_text("annotations/train2017/1.json\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        vispr.prepare(tmp_path)


def hvu(root: Path, rows: str, categories: str = "run,action\ntree,object\npark,scene\nfun,concept\n") -> Path:
    (root / "HVU_Tags_Categories_V1.0.csv").write_text(f"Tag,Category\n{categories}")
    (root / "HVU_Val_V1.0.csv").write_text(f"Tags,youtube_id,time_start,time_end\n{rows}")
    return root


def test_phvu_rule(tmp_path: Path) -> None:
    rows = "park|run|tree|fun,abc,1.5,11.5\nrun|tree,def,1,2\npark|run,ghi,1,2\npark|tree,jkl,1,2\n"
    manifest = phvu.prepare(hvu(tmp_path, rows))
    assert manifest.rows["path"].tolist() == ["videos_val/abc_000001_000011.mp4"]
    assert manifest.rows.loc[0, ["action", "object", "scene"]].tolist() == ["run", "tree", "park"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("run|tree|park,abc,1,2\nrun|lake,def,1,2\n", r"HVU_Val_V1\.0\.csv, line 3: tag 'lake'"),
        ("run|tree|park,abc,one,2\n", r"HVU_Val_V1\.0\.csv, line 2: 'one,2'"),
        ("run|tree|park,abc,1\n", r"HVU_Val_V1\.0\.csv, line 2: 'run\|tree\|park,abc,1'"),
    ],
)
def test_phvu_names_file_and_line(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        phvu.prepare(hvu(tmp_path, rows))


def test_phvu_refuses_a_table_without_its_columns(tmp_path: Path) -> None:
    hvu(tmp_path, "")
    (tmp_path / "HVU_Val_V1.0.csv").write_text("tags,id\n")
    with pytest.raises(UserError, match=r"HVU_Val_V1\.0\.csv, line 1: there is no column 'Tags'"):
        phvu.prepare(tmp_path)


def test_validation_is_cut_by_group_and_leaves_a_group_to_train_on() -> None:
    import pandas as pd

    groups = ["a", "a", "b", "b", "c", "c", "c", "only", "t"]
    rows = pd.DataFrame({"group": groups, "action": ["x"] * 7 + ["y", "x"], "split": ["train"] * 8 + ["test"]})
    cut = cut_validation(rows, "action")["split"].tolist()
    assert cut == ["val", "val", "train", "train", "train", "train", "train", "train", "test"]
