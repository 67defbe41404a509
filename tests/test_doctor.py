"""The doctor's page: which prepared datasets can be trained on, and what to do about the others."""

from pathlib import Path

import pytest

from data_prep.sources import how_to_get, how_to_prepare
from spact_lib import doctor
from spact_lib.paths import mini_folder

NEEDED = ["good", "labels_only", "partly", "broken", "aside", "absent", "vispr_pa"]
FURTHER = ["partly", "phvu", "pa_hmdb51"]  # for all columns of the first notebook


@pytest.fixture
def page(tmp_path: Path, monkeypatch, capsys) -> tuple[str, list[str], list[str]]:
    """What is printed for the paper profile with datasets in seven states, what is to be done, and what for --full."""
    for name, files in {"good": "ab", "labels_only": "", "partly": "a", "broken": "ab"}.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        rows = "a,train,x\nb,test,x\n" + ("c,exam,x\n" if name == "broken" else "c,unused,\n")
        (folder / "manifest.csv").write_text(f"path,split,t:single\n{rows}")
        for file in files:
            (folder / file).touch()
    aside = tmp_path / "data" / "aside"
    aside.mkdir()
    rows = "a,train,x,\nb,test,x,\nc,unused,x,train\nd,unused,x,test\n"
    (aside / "manifest.csv").write_text(f"path,split,t:single,missing_from\n{rows}")
    for file in "ab":
        (aside / file).touch()
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SPACT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(doctor, "_packages", lambda: [])
    monkeypatch.setattr(doctor, "committed_notebooks", lambda: [Path("00_good.ipynb"), Path("01_all.ipynb")])

    def needs(path: Path, full: bool = False) -> list[str]:
        return NEEDED if "all" in path.name else ["good", *(FURTHER if full else [])]

    monkeypatch.setattr("spact_lib.notebooks.needs", needs)
    steps = doctor.examine("paper")
    return capsys.readouterr().out, *steps


def test_each_dataset_has_a_line(page):
    text = page[0]
    for line in (
        "  good: 3 rows, 2 files in use, all there\n",
        "  labels_only: 3 rows, 2 files in use, 2 missing\n",
        "  partly: 3 rows, 2 files in use, 1 missing\n",
        "  aside: 4 rows, 2 files in use, all there; 2 of 4 selected clips are not on disk, and set aside\n",
        "  absent: not prepared\n",
        "  vispr_pa: not prepared\n",
        "  phvu: not prepared\n",
        "  pa_hmdb51: not prepared\n",
        "split 'exam' is unknown",
        "downloaded when a blackened or blurred row is made first\n",
    ):
        assert line in text
    assert text.count("partly: ") == text.count("phvu: ") == 1
    assert len(text.splitlines()) < 20


def test_notebooks_that_can_run_and_what_to_do_for_the_others(page, tmp_path):
    text, to_do, for_full = page
    assert (
        "00_good.ipynb: can run\n"
        "  for all columns: needs partly, phvu, pa_hmdb51\n"
        "01_all.ipynb: needs labels_only, partly, broken, absent, vispr_pa\n"
    ) in text
    assert text.count("for all columns") == 1
    data = tmp_path / "data"
    assert for_full == [
        f"spact prepare phvu --root DIR; {how_to_get('phvu')}",
        f"spact prepare pa_hmdb51 --root DIR; {how_to_get('pa_hmdb51')}",
    ]
    assert to_do == [
        f"put the files of labels_only under {data / 'labels_only'}: none is there",
        f"put the files of partly in place: 1 of 2 are missing under {data / 'partly'}; "
        f"spact report {data / 'partly'} lists them",
        "spact prepare broken --root DIR",
        "spact prepare absent --root DIR",
        f"spact prepare vispr --root DIR; {how_to_get('vispr')}",
    ]


def test_built_in_data_that_are_damaged_are_drawn_again(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    monkeypatch.setattr(doctor, "_packages", lambda: [])
    monkeypatch.setattr(doctor, "committed_notebooks", lambda: [Path("00_good.ipynb"), Path("01_all.ipynb")])
    needed = {"00_good.ipynb": ["good", "absent"], "01_all.ipynb": ["good", "broken", "gone"]}
    monkeypatch.setattr("spact_lib.notebooks.needs", lambda path, full=False: needed[path.name])
    data = mini_folder("mini", 1)
    for name, split in (("good", "train"), ("broken", "exam"), ("gone", "train")):
        (data / name).mkdir(parents=True)
        (data / name / "manifest.csv").write_text(f"path,split,t:single\na,{split},x\n")
    (data / "good" / "a").touch()
    assert doctor.examine("mini") == ([f"delete {data}, then: spact prepare mini --draw 1 --scale mini"], [])
    assert "00_good.ipynb: can run\n01_all.ipynb: needs broken, gone\n" in capsys.readouterr().out


def test_training_rows_that_are_not_there_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture):
    """P-HVU without its training csv, and PA-HMDB51, from which nothing is learned."""
    for name in ("phvu", "pa_hmdb51"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "manifest.csv").write_text("path,split,t:multi\na,test,x\n")
    said = doctor._dataset(tmp_path / "phvu")
    again = f"get its training csv and prepare again: `spact prepare phvu --root DIR`; {how_to_get('phvu')}"
    put = f"put the files of phvu under {tmp_path / 'phvu'}: none is there"
    assert said == f"phvu has no training rows; {again}; {put}"
    assert "  phvu: 1 rows, 1 files in use, 1 missing; no training rows\n" in capsys.readouterr().out
    assert (
        doctor._dataset(tmp_path / "pa_hmdb51")
        == f"put the files of pa_hmdb51 under {tmp_path / 'pa_hmdb51'}: none is there"
    )
    assert "training" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ucf101", "spact prepare ucf101 --root DIR"),
        ("vp_hmdb51_split3", "spact prepare vp_hmdb51 --root DIR --split 3"),
        ("hmdb51_split2_without_pa", "spact prepare hmdb51 --root DIR --split 2 --without-pa DIR"),
        ("pa_hmdb51_videos", "spact prepare pa_hmdb51 --root DIR"),
        ("mine", "spact prepare mine --root DIR"),
        ("vispr_mine", "spact prepare vispr_mine --root DIR"),
    ],
)
def test_variants_are_prepared_by_the_command_of_their_dataset(name: str, command: str) -> None:
    assert how_to_prepare(name) == command
