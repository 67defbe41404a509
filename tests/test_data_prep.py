"""The readers of the official layouts, on files of a few lines; test_data_prep_real.py reads the published ones."""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import data_prep
from data_prep import hmdb51, pa_hmdb51, phvu, published, ucf101, vispr
from data_prep.official import cut_validation
from data_prep.sources import SOURCES, cards, how_to_get
from spact_lib import cli
from spact_lib.dataset_report import write_report
from spact_lib.errors import UserError
from spact_lib.manifest import listed_splits, read_manifest


def segments(**changed: list) -> dict[str, list]:
    return {**{a: [[0, 9, 0]] for a in pa_hmdb51.ATTRIBUTES}, **changed}


def annotations(folder: Path, content: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "wave.json").write_text(json.dumps(content))
    return folder


def test_pa_hmdb51_cuts_at_every_boundary_and_drops_what_is_not_fully_annotated(tmp_path: Path) -> None:
    content = segments(face=[[0, 3, 2], [4, 9, 0]], gender=[[2, 9, [1, 2]]], nudity=[[0, 6, 1]])
    manifest = pa_hmdb51.prepare(tmp_path, annotations=annotations(tmp_path / "a", {"x_wave_u_1.avi": content}))
    found = manifest.rows[["start", "end", "pa_attributes", "gender_value"]].to_numpy().tolist()
    assert found == [[2, 4, "face|gender|nudity", "1+2"], [4, 7, "gender|nudity", "1+2"]]
    assert manifest.rows["path"].unique().tolist() == ["wave/x_wave_u_1.avi"]


def test_pa_hmdb51_ranges_and_videos(tmp_path: Path) -> None:
    content = segments(nudity=[[0, 3, 0], [4, 6, 1], [7, 9, 2]], gender=[[0, 9, [0, 1]]], face=[[0, 8, 0], [8, 9, 1]])
    folder = annotations(tmp_path / "a", {"x_wave_u_1.avi": content})
    manifest = pa_hmdb51.prepare(tmp_path, annotations=folder)
    tasks = ["pa_attributes", "pa_attributes_nudity2"]
    found = manifest.rows[["start", "end", *tasks]].to_numpy().tolist()
    assert found == [
        [0, 4, "gender", "gender"],
        [4, 7, "gender|nudity", "gender"],
        [7, 8, "gender|nudity", "gender|nudity"],
        [8, 9, "face|gender|nudity", "face|gender|nudity"],  # two ranges of the face: the later one counts
        [9, 10, "face|gender|nudity", "face|gender|nudity"],
    ]
    (video,) = pa_hmdb51.per_video(manifest).rows.to_dict("records")
    assert (video["start"], video["end"], video["action"], video["nudity_value"]) == (0, 10, "wave", "0+1+2")
    assert video["gender_value"] == "0+1" and video["pa_attributes"] == "face|gender|nudity"
    values = pa_hmdb51.frame_values(pa_hmdb51.read_annotations(folder))
    assert values["face"].tolist() == ["0"] * 8 + ["1"] * 2 and values.index[3] == ("wave/x_wave_u_1.avi", 3)


def test_hmdb51_without_pa_asks_for_the_same_videos(tmp_path: Path) -> None:
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    (lists / "wave_test_split1.txt").write_text("a_wave_u_1.avi 1\nb_wave_u_1.avi 1\nc_wave_u_1.avi 2\n")
    folder = annotations(tmp_path / "a", {"b_wave_u_1.avi": segments()})
    rows = hmdb51.prepare(tmp_path, without_pa=folder).rows
    assert rows["split"].tolist() == ["train", "unused", "test"]
    annotations(tmp_path / "a", {"z_wave_u_1.avi": segments()})
    with pytest.raises(UserError, match=r"annotates 'wave/z_wave_u_1\.avi', which HMDB51's split files do not list"):
        hmdb51.prepare(tmp_path, without_pa=folder)


def test_hmdb51_finds_pa_hmdb51_as_its_own_reader_does(tmp_path: Path) -> None:
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    (lists / "wave_test_split1.txt").write_text("a_wave_u_1.avi 1\nb_wave_u_1.avi 1\nc_wave_u_1.avi 2\n")
    root = tmp_path / "pa" / "PA-HMDB51-master"
    root.mkdir(parents=True)
    folder = annotations(root / "PrivacyAttributes", {"b_wave_u_1.avi": segments()})
    for named in (folder, root, root.parent):
        assert hmdb51.prepare(tmp_path, without_pa=named).rows["split"].tolist() == ["train", "unused", "test"]
    with pytest.raises(UserError) as error:
        data_prep.read("hmdb51", tmp_path, without_pa=lists)
    assert str(error.value) == (
        f"there is no {lists / 'PrivacyAttributes'}; unpack the official files there; {how_to_get('pa_hmdb51')}"
    )


@pytest.mark.parametrize(
    "broken",
    [None, [], [[0, 9]], [[0, 9, "1"]], [[9, 0, 1]], [[0, 9, []]], [[0, 9, 3]], [[0, 9, [0, 3]]], [[0, 9, True]]],
)
def test_pa_hmdb51_refuses_what_is_no_segment(tmp_path: Path, broken: object) -> None:
    folder = annotations(tmp_path / "a", {"x_wave_u_1.avi": segments(face=broken)})
    with pytest.raises(UserError, match=r"wave\.json, line 1: face of 'x_wave_u_1\.avi'"):
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


def test_another_split_is_another_dataset(tmp_path: Path) -> None:
    root = ucf(tmp_path / "official")
    for part in ("train", "test"):
        lists = root / "ucfTrainTestlist"
        (lists / f"{part}list02.txt").write_bytes((lists / f"{part}list01.txt").read_bytes())
    assert data_prep.prepare("ucf101", root, tmp_path, split=2) == tmp_path / "ucf101_split2" / "manifest.csv"
    with pytest.raises(UserError, match="unknown split of HMDB51 '0'; choose one of: 1, 2, 3"):
        data_prep.prepare("hmdb51", root, tmp_path, split=0)
    with pytest.raises(UserError, match="vispr has no option --split; its options: none"):
        data_prep.prepare("vispr", root, tmp_path, split=2)
    with pytest.raises(UserError, match="ucf101 has no option --without-pa; its options: --split, --lists"):
        data_prep.prepare("ucf101", root, tmp_path, without_pa=tmp_path)


def test_lists_may_lie_in_the_root(tmp_path: Path) -> None:
    root = ucf(tmp_path) / "ucfTrainTestlist"
    assert len(ucf101.prepare(root)) == 6


def test_media_are_not_needed_and_their_absence_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = ucf(tmp_path / "official")
    data_prep.prepare("ucf101", root, tmp_path)
    assert "no file of the 6 rows" in caplog.text and "annotations alone" in caplog.text
    caplog.clear()
    for name in ("Run", "Sit"):
        (root / "UCF-101" / name).mkdir(parents=True)
        (root / "UCF-101" / name / f"v_{name}_g01_c01.avi").touch()
    data_prep.prepare("ucf101", root, tmp_path)
    assert "annotations alone" not in caplog.text


def test_unknown_dataset_names_the_legal_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="unknown dataset 'ucf'; choose one of: custom, hmdb51, mini, pa_hmdb51, phvu, ucf"
    ):
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


def test_ucf101_names_a_class_in_two_spellings(tmp_path: Path) -> None:
    """As the official lists do: HandstandPushups/v_HandStandPushups_g01_c01.avi."""
    root = ucf(tmp_path, testlist01="Run/v_rUN_g01_c01.avi\nSit/v_Sit_g01_c01.avi\n")
    assert ucf101.prepare(root).rows["path"].iloc[-2] == "UCF-101/Run/v_rUN_g01_c01.avi"


def test_missing_official_files_say_where_to_unpack_them(tmp_path: Path) -> None:
    for name in data_prep.DATASETS:
        with pytest.raises(UserError, match="unpack the official files there; to get .* https://") as error:
            data_prep.prepare(name, tmp_path, tmp_path / "out")
        assert str(error.value).endswith(how_to_get(name)) and SOURCES[name].url in how_to_get(name)
    assert how_to_get("vp_ucf101_split2") == how_to_get("vp_hmdb51") != how_to_get("ucf101_split2")
    assert how_to_get("hmdb51_without_pa") == how_to_get("hmdb51") and how_to_get("mine") == ""
    assert all(len(line.split("|")) == 7 for line in cards().splitlines()) and "(Code, Download ZIP)" in cards()
    with pytest.raises(
        UserError, match=r"no .*vp_ucf101\.csv; .*, or name its folder: --annotations DIR; to get .* https://"
    ):
        data_prep.prepare("vp_ucf101", ucf(tmp_path / "ucf101"), tmp_path / "out")
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
        ("annotations/train2017/1.json", "{", r"1\.json, line 1: not valid JSON"),
        ("annotations/train2017/1.json", '{"labels": []}', r"1\.json, line 1: no 'image_path'"),
        ("annotations/train2017/1.json", "[]", r"1\.json, line 1: holds a JSON list"),
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
        ("run|tree|park,abc,2,1.5\n", r"HVU_Val_V1\.0\.csv, line 2: clip abc,2,1\.5 ends before it starts; correct"),
        ("", r"HVU_Val_V1\.0\.csv, line 1: there is no clip below it; replace the file"),
    ],
)
def test_phvu_names_file_and_line(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        phvu.prepare(hvu(tmp_path, rows))


@pytest.mark.parametrize(
    ("categories", "said"),
    [
        (
            "run,action\ntree,object\npark,scen\n",
            r"line 4: category 'scen' of tag 'park' is none of HVU's .*scene\); correct",
        ),
        (
            "run,action\ntree,object\n",
            r"HVU_Tags_Categories_V1\.0\.csv, line 1: no tag below it is of category 'scene'",
        ),
    ],
)
def test_phvu_refuses_categories_that_hvu_does_not_have(tmp_path: Path, categories: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        phvu.prepare(hvu(tmp_path, "run|tree,abc,1,2\n", categories))


def test_phvu_refuses_a_table_without_its_columns(tmp_path: Path) -> None:
    hvu(tmp_path, "")
    (tmp_path / "HVU_Val_V1.0.csv").write_text("tags,id\n")
    with pytest.raises(UserError, match=r"HVU_Val_V1\.0\.csv, line 1: there is no column 'Tags'"):
        phvu.prepare(tmp_path)


def test_phvu_counts_lists_and_sets_aside_what_is_not_on_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, out = tmp_path / "official", tmp_path / "out" / "phvu"
    root.mkdir()
    hvu(root, "park|run|tree,abc,1.5,11.5\npark|run|tree,d_f,0,10\npark|run|tree,ghi,1200,1210\n")
    (root / "HVU_Train_V1.0.csv").write_text("Tags,youtube_id,time_start,time_end\nrun|tree|park,jkl,1,2\n")
    header = "split,youtube_id,time_start,time_end,path\n"

    data_prep.prepare("phvu", root, tmp_path / "out")
    assert "annotations alone" in caplog.text
    assert read_manifest(out).rows["split"].tolist() == ["train", "test", "test", "test"]
    assert (out / "missing.csv").read_text() == header
    assert (out / "selected.csv").read_text().splitlines()[1:3] == [
        "train,jkl,1,2,videos_train/jkl_000001_000002.mp4",
        "test,abc,1.5,11.5,videos_val/abc_000001_000011.mp4",
    ]

    caplog.clear()
    (root / "videos_val").mkdir()
    (root / "videos_val" / "abc_000001_000011_.mp4").touch()  # as the downloader calls it once it is trimmed
    (root / "videos_val" / "ghi_001200_001210.mp4").touch()
    data_prep.prepare("phvu", root, tmp_path / "out")
    assert "2 of 4 clips are not on disk" in caplog.text and "annotations alone" not in caplog.text
    manifest = read_manifest(out)
    assert manifest.rows["split"].tolist() == ["unused", "test", "unused", "test"]
    assert manifest.rows["path"][1] == "videos_val/abc_000001_000011_.mp4"
    assert (out / "missing.csv").read_text() == (
        header + "train,jkl,1,2,videos_train/jkl_000001_000002.mp4\ntest,d_f,0,10,videos_val/d_f_000000_000010.mp4\n"
    )
    classes = ["scene_classes_selected", "scene_classes_left"]
    assert pd.read_csv(out / "counts.csv")[["split", "clips", "missing", *classes]].to_numpy().tolist() == [
        ["test", 3, 1, 1, 1],
        ["train", 1, 1, 1, 0],
    ]
    assert manifest.rows["missing_from"].tolist() == ["train", "", "test", ""]
    assert listed_splits(manifest).tolist() == ["train", "test", "test", "test"]
    report = write_report(out)
    assert report["facts"] == {"rows of HVU's csv files": {"train": 1, "test": 3}}
    assert report["selected"] == {"train": 1, "test": 3} and report["set_aside"] == {"train": 1, "test": 1}


def test_phvu_may_select_no_row_of_a_csv_file(tmp_path: Path) -> None:
    hvu(tmp_path, "run|fun,abc,1,2\n")
    (tmp_path / "HVU_Train_V1.0.csv").write_text("Tags,youtube_id,time_start,time_end\nrun|tree|park,jkl,1,2\n")
    lines = published.compare(phvu.prepare(tmp_path))
    assert any(line.startswith("test csv, rows that the rule selects: 0, but 16,012 are published") for line in lines)


def test_phvu_says_how_far_the_training_csv_is_from_the_paper(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phvu, "OFFICIAL_CLASSES", {"action": 1, "object": 1, "scene": 1})
    monkeypatch.setattr(phvu, "PAPER_CLIPS", {"train": 3, "test": 1})
    hvu(tmp_path, "park|run|tree,abc,1,2\n")
    rows = "Tags,youtube_id,time_start,time_end\n" + "".join(f"park|run|tree,{k},1,2\n" for k in range(3))
    (tmp_path / "HVU_Train_V1.0.csv").write_text(rows)
    phvu.prepare(tmp_path)
    assert "the paper's" not in caplog.text
    (tmp_path / "HVU_Train_V1.0.csv").write_text(rows + "park|run|tree,x,1,2\n")
    phvu.prepare(tmp_path)
    assert "4 train clips, +1 against the paper's 3. Likely reasons" in caplog.text
    caplog.clear()
    hvu(tmp_path, "park|run|tree,abc,1,2\n", "run,action\nsit,action\ntree,object\npark,scene\n")
    phvu.prepare(tmp_path)
    assert "2 classes of action, but HVU's tag file has 1; " in caplog.text
    assert "4 train clips, +1 against the paper's 3. Likely reasons" in caplog.text
    caplog.clear()
    monkeypatch.setattr(phvu, "OFFICIAL_CLASSES", {"action": 739, "object": 1678, "scene": 248})
    phvu.prepare(tmp_path)  # another, smaller dataset in HVU's layout, such as the built-in one
    assert not [said for said in caplog.records if said.levelno > logging.INFO]


def test_custom_is_checked_and_called_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    table = tmp_path / "mine.csv"
    table.write_text("path,split,who:single,camera\na.mp4,train,ann,left\na.mp4,test,ann,left\n")
    path = data_prep.prepare("custom", table, tmp_path / "out")
    assert path == tmp_path / "out" / "mine" / "manifest.csv"
    again = read_manifest(path)
    assert again.fingerprint == read_manifest(table).fingerprint
    assert (again.root / "a.mp4").exists()
    with pytest.raises(UserError, match="is a folder; name your table"):
        data_prep.prepare("custom", tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="would be called 'vispr'.*rename the file"):
        data_prep.prepare("custom", table.rename(tmp_path / "vispr.csv"), tmp_path / "out")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["prepare", *map(str, arguments)])
        captured = capsys.readouterr()
        return stop.value.code, captured.out + captured.err

    code, said = run("ucf")
    assert code == 2 and "unknown dataset 'ucf'" in said and "--root" not in said
    code, said = run("custom")
    assert code == 2 and "spact prepare custom --root FILE.csv" in said
    code, said = run("mini", "--split", 1)
    assert code == 2 and "leave out --split" in said
    code, said = run("ucf101", "--root", tmp_path, "--split", 4)
    assert code == 2 and "unknown split of UCF101 '4'; choose one of: 1, 2, 3" in said
    code, said = run("ucf101", "--root", ucf(tmp_path / "official"), "--out", tmp_path / "out")
    assert code == 0 and all(part in said for part in ("2 train", "2 val", "2 test", "action (single, 2)"))
    annotations(tmp_path / "PrivacyAttributes", {"x_wave_u_1.avi": segments()})
    code, said = run("pa_hmdb51", "--root", tmp_path, "--out", tmp_path / "out")
    assert code == 0 and "  pa_hmdb51: 1 test; " in said and "  pa_hmdb51_videos: 1 test; " in said
    for name in ("pa_hmdb51", "pa_hmdb51_videos"):
        assert json.loads((tmp_path / "out" / name / "report.json").read_text())["dataset"] == name


def test_validation_is_cut_by_group_and_leaves_a_group_to_train_on() -> None:
    groups = ["a", "a", "b", "b", "c", "c", "c", "only", "t"]
    rows = pd.DataFrame({"group": groups, "action": ["x"] * 7 + ["y", "x"], "split": ["train"] * 8 + ["test"]})
    cut = cut_validation(rows, "action")["split"].tolist()
    assert cut == ["val", "val", "train", "train", "train", "train", "train", "train", "test"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=40))
def test_no_film_is_in_train_and_val_and_every_class_keeps_training_rows(rows: list[tuple[str, str, bool]]) -> None:
    table = pd.DataFrame(rows, columns=["group", "action", "split"]).replace({"split": {True: "train", False: "test"}})
    cut = cut_validation(table, "action")
    train, val = (cut[cut["split"] == split] for split in ("train", "val"))
    assert not set(train["group"]) & set(val["group"])
    assert set(train["action"]) == set(table.loc[table["split"] == "train", "action"])
    assert cut.loc[table["split"] == "test", "split"].eq("test").all()
    for action, part in table[table["split"] == "train"].groupby("action"):
        # A class has validation rows unless each of its films is the last one of some class.
        held = [set(train.loc[train["action"] == other, "group"]) for other in set(train["action"])]
        needed = {film for films in held if len(films) == 1 for film in films}
        assert action in set(val["action"]) or set(part["group"]) <= needed


def test_hmdb51_cuts_validation_by_film_over_all_classes(tmp_path: Path) -> None:
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name, films in {"run": "aabbc", "wave": "acddd"}.items():
        lines = (f"{film}_{name}_u_cm_np1_ba_med_{n}.avi 1\n" for n, film in enumerate(films))
        (lists / f"{name}_test_split1.txt").write_text("".join(lines) + f"t_{name}_u_cm_np1_ba_med_0.avi 2\n")
    rows = hmdb51.prepare(tmp_path).rows
    found = rows.groupby("group")["split"].unique().map(list).to_dict()
    assert found == {"a": ["train"], "b": ["val"], "c": ["val"], "d": ["train"], "t": ["test"]}


def test_hmdb51_orders_its_classes_as_pa_hmdb51_does(tmp_path: Path) -> None:
    lists, names = tmp_path / "testTrainMulti_7030_splits", ["climb_stairs", "climb"]
    lists.mkdir()
    (tmp_path / "a").mkdir()
    for name in names:
        (lists / f"{name}_test_split1.txt").write_text(f"a_{name}_u_1.avi 1\nb_{name}_u_1.avi 2\n")
        (tmp_path / "a" / f"{name}.json").write_text(json.dumps({f"b_{name}_u_1.avi": segments()}))
    for manifest in (hmdb51.prepare(tmp_path), pa_hmdb51.prepare(tmp_path, annotations=tmp_path / "a")):
        assert manifest.tasks["action"].classes == ("climb", "climb_stairs")


def test_what_protocols_need_of_pa_hmdb51_is_written_with_it(tmp_path: Path) -> None:
    content = segments(nudity=[[0, 3, 0], [4, 6, 1], [7, 9, 2]], face=[[0, 8, 0]])
    annotations(tmp_path / "PrivacyAttributes", {"x_wave_u_1.avi": content})
    data_prep.prepare("pa_hmdb51", tmp_path, tmp_path / "out")
    ranges, videos = (read_manifest(tmp_path / "out" / name) for name in ("pa_hmdb51", "pa_hmdb51_videos"))
    assert ranges.tasks == videos.tasks and videos.name == "pa_hmdb51_videos" and videos.root == ranges.root
    assert ranges.facts["annotated frames"] == 10
    assert ranges.facts["frames annotated for"] == dict.fromkeys(pa_hmdb51.ATTRIBUTES, 10) | {"face": 9}
    nothing = dict.fromkeys(pa_hmdb51.ATTRIBUTES, 0)
    assert ranges.facts["frames that show"] == nothing | {"nudity": 6, "nudity (value 2)": 3}
    assert videos.rows[["path", "start", "end", "pa_attributes_nudity2"]].to_numpy().tolist() == [
        ["wave/x_wave_u_1.avi", 0, 9, "nudity"]
    ]


def test_vispr_is_written_with_pa_hmdb51s_attributes_too(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / "annotations" / f"{split}2017").mkdir(parents=True)
        (tmp_path / f"{split}2017.txt").write_text(f"annotations/{split}2017/1.json\n")
        content = {"image_path": f"images/{split}/1.jpg", "labels": ["a10_face_partial", "a64_rel_personal"]}
        (tmp_path / "annotations" / f"{split}2017" / "1.json").write_text(json.dumps(content))
    data_prep.prepare("vispr", tmp_path, tmp_path / "out")
    learned = read_manifest(tmp_path / "out" / "vispr_pa")
    assert learned.tasks == pa_hmdb51.TASKS and set(learned.rows["split"]) == {"train", "val", "test"}
    assert set(learned.rows["pa_attributes"]) == set(learned.rows["pa_attributes_nudity2"]) == {"face|relationship"}
    assert "to be confirmed" in read_manifest(tmp_path / "out" / "vispr").facts["vispr2"]
