"""Whatever is wrong with the official files: one sentence with file and line, and the output as it was."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_prep
from data_prep import official
from data_prep.pa_hmdb51 import ATTRIBUTES
from spact_lib.errors import UserError
from spact_lib.manifest import read_manifest

UCF101 = {
    "ucfTrainTestlist/classInd.txt": "1 Run\n2 Sit\n",
    "ucfTrainTestlist/trainlist01.txt": "".join(
        f"{name}/v_{name}_g{group:02}_c01.avi {n}\n" for n, name in ((1, "Run"), (2, "Sit")) for group in (8, 9)
    ),
    "ucfTrainTestlist/testlist01.txt": "Run/v_Run_g01_c01.avi\nSit/v_Sit_g01_c01.avi\n",
}
HMDB51 = {
    f"testTrainMulti_7030_splits/{name}_test_split1.txt": "".join(
        f"{source}_{name}_f_cm_np1_ba_med_0.avi {code} \n" for source, code in (("a", 1), ("b", 1), ("c", 2), ("d", 0))
    )
    for name in ("run", "wave")
}
PA = {a: [[0, 5, 1], [6, 9, [1, 2]]] for a in ATTRIBUTES} | {"relationship": [[0, 5, 1], [6, 9, 0]]}
PA_HMDB51 = {
    "PrivacyAttributes/run.json": json.dumps({"c_run_f_cm_np1_ba_med_0.avi": PA | {"review": True}}, indent=1),
    "PrivacyAttributes/wave.json": json.dumps({"d_wave_f_cm_np1_ba_med_0.avi": PA | {"note": ""}}, indent=1),
}
VISPR = {f"{split}2017.txt": f"annotations/{split}2017/2017_1.json\n" for split in ("train", "val", "test")} | {
    f"annotations/{split}2017/2017_1.json": json.dumps(
        {"id": "2017_1", "image_path": f"images/{split}2017/2017_1.jpg", "labels": ["a4_gender", "a64_rel_personal"]}
    )
    for split in ("train", "val", "test")
}
PHVU = {
    "HVU_Tags_Categories_V1.0.csv": "Tag,Category\nrun,action\ntree,object\npark,scene\nfun,concept\n",
    "HVU_Train_V1.0.csv": "Tags,youtube_id,time_start,time_end\nrun|tree|park,abcdefghijk,1.5,11.5\nrun|fun,b,1,2\n",
    "HVU_Val_V1.0.csv": "Tags,youtube_id,time_start,time_end\npark|run|tree,c-d_e,10,20\n",
}
VP_UCF101 = UCF101 | {
    "vp_ucf101.csv": "video,p0,p1,p2,p3,p4\n"
    + "".join(f"{c}/v_{c}_g{g:02}_c01.mp4,1,0,1,0,{g % 2}\n" for c in ("Run", "Sit") for g in (1, 8, 9))
}
VP_HMDB51 = HMDB51 | {
    "vp_hmdb51.csv": "video,p0,p1,p2,p3,p4\n"
    + "".join(f"{c}/{s}_{c}_f_cm_np1_ba_med_0.mp4,1,0,1,0,0\n" for c in ("run", "wave") for s in "abcd")
}
CUSTOM = {"mine.csv": "path,split,start,end,who:single,what:multi\na/1.mp4,train,,,ann,x|y\nb.mp4,test,0,9,ann,\n"}
LAYOUTS = {
    "ucf101": UCF101,
    "hmdb51": HMDB51,
    "pa_hmdb51": PA_HMDB51,
    "vispr": VISPR,
    "phvu": PHVU,
    "vp_ucf101": VP_UCF101,
    "vp_hmdb51": VP_HMDB51,
    "custom": CUSTOM,
}
INSERTED = [
    b"..",
    b"../../x",
    b"/",
    b"\\",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\r",
    b"\n",
    b",",
    b'"',
    b"|",
    b" ",
    b":",
]
INSERTED += ["é".encode(), "\u2028".encode(), b"\\ud800", b"\\u0000", b"-1", b"9" * 30, b"1e999", b"nan", b"[[", b"~"]


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def prepare(name: str, root: Path, out: Path) -> Path:
    return data_prep.prepare(name, root / "mine.csv" if name == "custom" else root, out)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@st.composite
def broken(draw: st.DrawFn, files: dict[str, str]) -> dict[str, bytes]:
    """The files with one of them cut short, lacking or repeating a line, with bytes put in or changed, or gone."""
    files = {name: text.encode() for name, text in files.items()}
    name = draw(st.sampled_from(sorted(files)))
    before = files[name]
    start, end = sorted(draw(st.tuples(*2 * [st.integers(0, len(before))])))
    put = draw(st.sampled_from(INSERTED) | st.binary(max_size=4))
    lines = before.splitlines(keepends=True)
    line = draw(st.integers(0, len(lines) - 1))
    files[name] = draw(
        st.sampled_from(
            [
                before[:start],
                before[:start] + put + before[start:],
                before[:start] + put + before[end:],
                b"".join(lines[:line] + lines[line + 1 :]),
                b"".join([*lines, lines[line]]),
                b"\xef\xbb\xbf" + before,
                before.replace(b"\n", b"\r\n"),
                None,
            ]
        )
    )
    return {name: data for name, data in files.items() if data is not None}


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_manifest_or_one_sentence_and_nothing_half_written(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    out = tmp_path_factory.getbasetemp() / f"out-{name}"
    if not out.exists():
        prepare(name, write(tmp_path_factory.mktemp("good"), LAYOUTS[name]), out)
    before = content(out)
    try:
        path = prepare(name, write(tmp_path_factory.mktemp("bad"), data.draw(broken(LAYOUTS[name]))), out)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) > 20
        assert content(out) == before
    else:
        manifest = read_manifest(path)
        assert not [p for p in manifest.rows["path"] if ".." in p.split("/") or p.startswith("/")]


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        (
            "pa_hmdb51",
            "PrivacyAttributes/wave.json",
            '{"a.avi": {\n"face": [[0,',
            r"wave\.json, line 2: not valid JSON",
        ),
        (
            "pa_hmdb51",
            "PrivacyAttributes/wave.json",
            '{"a.avi": 1,\n"a.avi": 2}',
            r"wave\.json, line 2: 'a\.avi' is there twice",
        ),
        ("pa_hmdb51", "PrivacyAttributes/wave.json", '{"../a.avi": {}}', r"line 1: '\.\./a\.avi' is not the name"),
        (
            "pa_hmdb51",
            "PrivacyAttributes/wave.json",
            '{"\\ud800.avi": {}}',
            r"wave\.json, line 1: '\\ud800\.avi' is not",
        ),
        (
            "pa_hmdb51",
            "PrivacyAttributes/wave.json",
            '{"a_wave_u_.avi":\n{}}',
            r"line 2: skin_color of 'a_wave.* is not a list",
        ),
        (
            "pa_hmdb51",
            "PrivacyAttributes/wave.json",
            json.dumps({"a_wave_u_.avi": PA | {"nudity": [[0, 5, 2], [6, 9, [0, 3]]]}}).replace(
                "6, 9, [0, 3", "\n6, 9, [0, 3"
            ),
            r"line 1: nudity of 'a_wave_u_\.avi', \[6, 9, \[0, 3\]\], has a value above 2, which means nothing",
        ),
        (
            "phvu",
            "HVU_Tags_Categories_V1.0.csv",
            "Tag,Category\nrun,action\ntree,\n",
            "line 3: tag 'tree' has no category",
        ),
        (
            "ucf101",
            "ucfTrainTestlist/classInd.txt",
            "1 Run\n",
            r"trainlist01\.txt, line 3: class 'Sit' is not in .*classInd",
        ),
        (
            "ucf101",
            "ucfTrainTestlist/classInd.txt",
            "1 Run\n2 Sit\n\n3 Hop\n",
            r"classInd\.txt, line 4: class 'Hop' has no video in the training list",
        ),
        (
            "hmdb51",
            "testTrainMulti_7030_splits/run_test_split1.txt",
            "",
            r"run_test_split1\.txt lists no training video",
        ),
        ("ucf101", "ucfTrainTestlist/testlist01.txt", "", r"testlist01\.txt lists no test video; replace"),
        ("vispr", "test2017.txt", "\n", r"test2017\.txt lists no test image; replace"),
        (
            "hmdb51",
            "testTrainMulti_7030_splits/run_test_split1.txt",
            "a_run_f_1.avi 1\nb_run_f_1.avi 0\n",
            r"run_test_split1\.txt lists no test video \(code 2\); replace",
        ),
        ("vispr", "val2017.txt", 2 * VISPR["val2017.txt"], r"val2017\.txt, line 2: .*2017_1\.json is listed before"),
        (
            "phvu",
            "HVU_Val_V1.0.csv",
            PHVU["HVU_Val_V1.0.csv"] + "run|fun,c-d_e,10,21\nrun,c-d_e,10.0,20\n",
            r"HVU_Val_V1\.0\.csv, line 4: clip c-d_e,10.0,20 is listed before; replace",
        ),
        ("ucf101", "ucfTrainTestlist/testlist01.txt", "Run/v_Sit_g01_c01.avi\n", r"list01\.txt, line 1: 'Run/v_Sit"),
        ("ucf101", "ucfTrainTestlist/trainlist01.txt", "Run/v_Run_g08_c01.avi\n", r"list01\.txt, line 1: 'Run/v_Run"),
        (
            "hmdb51",
            "testTrainMulti_7030_splits/wavy_test_split1.txt",
            HMDB51["testTrainMulti_7030_splits/wave_test_split1.txt"],
            r"wavy_test_split1\.txt, line 1: 'a_wave_f_.* is not of the form '<film>_wavy_<u, f, h, l or t>_",
        ),
        (
            "pa_hmdb51",
            "PrivacyAttributes/wavy.json",
            json.dumps({"d_wave_f_1.avi": PA}),
            r"wavy\.json, line 1: 'd_wave_f_1\.avi' is not of the form '<film>_wavy_<u, f, h, l or t>_",
        ),
        (
            "pa_hmdb51",
            "PrivacyAttributes/wave.json",
            json.dumps({"d_wave_f_1.avi": PA | {"hair": [[0, 9, 1]]}}, indent=1).replace('"hair"', '\n"hair"'),
            r"wave\.json, line \d+: 'hair' of 'd_wave_f_1\.avi' is no attribute .*skin_color.*; correct it",
        ),
        ("phvu", "HVU_Train_V1.0.csv", "Tags,youtube_id\n", r"HVU_Train_V1\.0\.csv, line 1: .* column 'time_start'"),
        ("phvu", "HVU_Train_V1.0.csv", PHVU["HVU_Train_V1.0.csv"] + "lake,x,1,2\n", r"Train.*, line 4: tag 'lake'"),
        ("phvu", "HVU_Train_V1.0.csv", PHVU["HVU_Train_V1.0.csv"] + "run,../x,1,2\n", r"line 4: '\.\./x'"),
        ("phvu", "HVU_Train_V1.0.csv", PHVU["HVU_Train_V1.0.csv"] + "run,x,inf,2\n", r"line 4: 'inf,2'"),
        (
            "phvu",
            "HVU_Tags_Categories_V1.0.csv",
            "Tag,Category\na,scene\na,event\n",
            r"Categories.*, line 3: tag 'a'.* twice",
        ),
        (
            "phvu",
            "HVU_Val_V1.0.csv",
            b"Tags,youtube_id,time_start,time_end\n\nr\xe9n,x,1,2\n",
            "line 3: 0xe9 is no UTF",
        ),
        ("ucf101", "ucfTrainTestlist/testlist01.txt", "Run/../v_Run_g01_c01.avi\n", r"testlist01\.txt, line 1"),
        ("ucf101", "ucfTrainTestlist/testlist01.txt", "Run/v_Run_g08_c01.avi\n", r"line 1: Run/.* is listed before"),
        ("ucf101", "ucfTrainTestlist/classInd.txt", "1 Run\n2 S\n3 Run\n", r"classInd\.txt, line 3: '3 Run'"),
        ("ucf101", "ucfTrainTestlist/classInd.txt", b"1 Run\n2 S\xefd\n", r"classInd\.txt, line 2: 0xef is no UTF-8"),
        ("hmdb51", "testTrainMulti_7030_splits/run_test_split1.txt", "../a.avi 1\n", r"run_test.*, line 1: '\.\./a"),
        ("hmdb51", "testTrainMulti_7030_splits/run_test_split1.txt", 2 * "a_run_u_.avi 1\n", "line 2: a_run_u_.avi is"),
        ("vispr", "train2017.txt", "annotations/train2017/../1.json\n", r"train2017\.txt, line 1"),
        (
            "vispr",
            "annotations/val2017/2017_1.json",
            '{"image_path": "../1.jpg", "labels": []}',
            r"2017_1\.json, line 1: image",
        ),
        (
            "vispr",
            "annotations/val2017/2017_1.json",
            '{"image_path": "1", "labels": [\n"a4_gender",\n"a5"]}',
            r"2017_1\.json, line 3: label 'a5' is none",
        ),
        ("vp_ucf101", "vp_ucf101.csv", "video,p0,p1,p2,p3,p4\nRun/v_Run_g08_c01.mp4,1,0,2,0,0\n", r"csv, line 2: 'Run"),
        (
            "vp_ucf101",
            "vp_ucf101.csv",
            "video,p0,p1,p2,p3,p4\nRun/x.mp4,1,0,1,0,0\n",
            r"csv, line 2: 'Run/x\.mp4' is in no",
        ),
        (
            "vp_hmdb51",
            "vp_hmdb51.csv",
            "video,p0,p1,p2,p3,p4\n",
            r"vp_hmdb51\.csv lacks 8 videos .* such as run/a_run_f",
        ),
        ("custom", "mine.csv", f"path,split,end,who:single\na.mp4,train,{'9' * 19},ann\n", "end in line 2 is '9999"),
        ("custom", "mine.csv", "path,split,end,who:single\na.mp4,train,٣,ann\n", "end in line 2 is '٣'; write a frame"),
        ("custom", "mine.csv", "path,split,who:single\n../a.mp4,train,ann\n", r"mine\.csv, line 2: path '\.\./a\.mp4'"),
    ],
)
def test_file_and_line_are_named(tmp_path: Path, name: str, file: str, text: str | bytes, said: str) -> None:
    root = write(tmp_path / "official", LAYOUTS[name] | {file: text})
    with pytest.raises(UserError, match=said):
        prepare(name, root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_files_that_are_no_utf8(tmp_path: Path) -> None:
    root = write(tmp_path, HMDB51 | PA_HMDB51)
    for name, folder, file in (
        ("hmdb51", "testTrainMulti_7030_splits", b"caf\xe9_test_split1.txt"),
        ("pa_hmdb51", "PrivacyAttributes", b"caf\xe9.json"),
    ):
        path = os.path.join(os.fsencode(root / folder), file)
        try:
            with open(path, "wb") as opened:
                opened.write(b"{}")
        except OSError:
            pytest.skip("this file system has no such names")
        with pytest.raises(UserError, match=r"caf.*plain UTF-8; rename it") as error:
            prepare(name, root, tmp_path / "out")
        str(error.value).encode()  # printable anywhere


@pytest.mark.parametrize(
    ("name", "media", "said"),
    [
        ("ucf101", ["UCF-101/Run/a.avi"], "UCF-101 has no videos of class 'Sit', which .*classInd.txt lists"),
        ("ucf101", [f"UCF-101/{c}/a.avi" for c in ("Run", "Sit", "Hop")], "Hop holds videos, but .* no class 'Hop'"),
        ("hmdb51", ["run/a.avi"], "has no videos of class 'wave'"),
        ("hmdb51", ["run/a.avi", "wave/a.avi", "hop/a.avi"], "hop holds videos"),
    ],
)
def test_class_lists_that_disagree_with_the_folders(tmp_path: Path, name: str, media: list[str], said: str) -> None:
    write(tmp_path, LAYOUTS[name] | dict.fromkeys(media, ""))
    with pytest.raises(UserError, match=said):
        prepare(name, tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("ucf101", {"UCF101TrainTestSplits-RecognitionTask.zip": ""}, "unzip {0}/UCF101T.*zip -d {0} "),
        ("ucf101", UCF101 | {"UCF101.rar": ""}, "so that {0}/UCF-101 is there: unrar x {0}/UCF101.rar {0}/ "),
        (
            "ucf101",
            UCF101 | {"UCF101 (1).rar": ""},
            r"unrar x '{0}/UCF101 \(1\).rar' {0}/ \(or 7z x '{0}/UCF101 .*bsdtar -xf ",
        ),
        ("ucf101", UCF101 | {"UCF-101/UCF101.rar": ""}, "unrar x {0}/UCF-101/UCF101.rar {0}/ "),
        (
            "ucf101",
            {"mine.7z": ""},
            r"no {0}/ucfTrainTestlist, but these archives: mine\.7z; unpack .*: 7z x {0}/mine.7z -o{0};",
        ),
        ("hmdb51", {"test_train_splits.rar": ""}, "unrar x {0}/test_train_splits.rar {0}/ "),
        ("hmdb51", HMDB51 | {"hmdb51_org.rar": ""}, "unrar x {0}/hmdb51_org.rar {0}/ "),
        (
            "hmdb51",
            HMDB51 | {"run.rar": "", "wave.rar": ""},
            r'2 classes .*: cd {0} && for name in \./\*\.rar; do unrar x "\$name" \./; done',
        ),
        ("pa_hmdb51", {"PA-HMDB51-master.zip": ""}, "so that {0}/PrivacyAttributes is there: unzip "),
        ("pa_hmdb51", {"PA-HMDB51-main copy.zip": ""}, "so that {0}/PrivacyAttributes is there: unzip "),
        ("vispr", VISPR | {"test2017.txt": None, "lists.tar.gz": ""}, "tar -xzf {0}/lists.tar.gz -C {0};"),
        (
            "vispr",
            VISPR | {"train2017.tar.gz": ""},
            "so that {0}/images/train2017 is there: tar -xzf {0}/train2017.tar.gz -C {0}/images;",
        ),
        (
            "vispr",
            {f"{s}2017.txt": VISPR[f"{s}2017.txt"] for s in ("train", "val", "test")} | {"x.tgz": ""},
            "these archives: x.tgz",
        ),
        ("phvu", PHVU | {"HVU_Val_V1.0.csv": None, "HVU_Val_V1.0.zip": ""}, "unzip {0}/HVU_Val_V1.0.zip -d {0} "),
    ],
)
def test_archives_are_recognised_and_left_alone(tmp_path: Path, name: str, files: dict, said: str) -> None:
    root = write(tmp_path / "official", {file: text for file, text in files.items() if text is not None})
    before = content(tmp_path)
    with pytest.raises(UserError, match="packed|archives") as error:
        prepare(name, root, tmp_path / "out")
    if "classes are still packed" not in str(error.value):
        assert "; to get " in str(error.value)
    assert re.search(said.format(re.escape(str(root))), str(error.value)), error.value
    assert content(tmp_path) == before


def test_the_folder_that_github_puts_into_its_archive_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "PA-HMDB51-master"
    write(folder, PA_HMDB51)
    assert len(read_manifest(prepare("pa_hmdb51", tmp_path, tmp_path / "out")).rows["path"].unique()) == 2


@st.composite
def laid_out(draw: st.DrawFn, value: object) -> str:
    """JSON text of ``value`` with white space drawn at random between all its parts."""
    space = st.text(" \n\t\r", max_size=3)
    if isinstance(value, dict):
        parts = [f"{draw(space)}{json.dumps(k)}{draw(space)}:{draw(laid_out(v))}" for k, v in value.items()]
        return f"{draw(space)}{{{','.join(parts)}{draw(space)}}}{draw(space)}"
    if isinstance(value, list):
        return f"{draw(space)}[{','.join(draw(laid_out(v)) for v in value)}{draw(space)}]{draw(space)}"
    return f"{draw(space)}{json.dumps(value)}{draw(space)}"


@settings(max_examples=60)
@given(data=st.data())
def test_the_line_of_a_wrong_value_is_named_whatever_the_layout(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("layout")
    labels = data.draw(st.lists(st.sampled_from(["a4_gender", "a64_rel_personal", "a0_safe"]), max_size=4))
    labels.insert(data.draw(st.integers(0, len(labels))), "nonsense")
    content = {"labels": labels, "id": 'a "labels": [', "image_path": "images/1.jpg"}
    text = data.draw(laid_out(dict(data.draw(st.permutations(list(content.items()))))))
    write(root, VISPR | {"annotations/val2017/2017_1.json": text})
    line = text[: text.index('"nonsense"')].count("\n") + 1
    with pytest.raises(UserError, match=rf"2017_1\.json, line {line}: label 'nonsense'"):
        prepare("vispr", root, root / "out")

    attribute, bad = (
        data.draw(st.sampled_from(sorted(PA))),
        data.draw(st.sampled_from([[0, 5, 4], [7, 6, 1], "bad", 77])),
    )
    annotated = {"x_run_u_.avi": PA, "y_run_u_.avi": PA | {attribute: [[0, 5, 1], bad, [6, 9, 0]]}}
    text = data.draw(laid_out(annotated))
    write(root, {"PrivacyAttributes/run.json": text})
    squeezed = "".join(text.split())
    at = squeezed.index(f'"{attribute}":[[0,5,1],' + "".join(json.dumps(bad).split()))
    at += len(f'"{attribute}":[[0,5,1],')
    line = [n for n, lines in enumerate(text.split("\n"), 1) for mark in lines if not mark.isspace()][at]
    with pytest.raises(UserError, match=rf"run\.json, line {line}: {attribute} of 'y_run_u_\.avi', .*; "):
        prepare("pa_hmdb51", root, root / "out")


def test_a_name_is_one_folder_deep() -> None:
    assert all(map(official.is_name, ["a.avi", "~a", "x y", "é", "...avi"]))
    assert not any(map(official.is_name, ["", ".", "..", "a/b", "a\\b", " a", "a\n", "\0", "\ud800", "a|b"]))
