"""Leave-one-group-out evaluation: every row is tested once, by networks that never saw its group."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spact_lib import cli, config, crossval, notebook_figures
from spact_lib.config import Profile, Schedule, profile
from spact_lib.errors import UserError
from spact_lib.experiments import predictions
from spact_lib.protocols import protocol
from spact_lib.store import Store, manifest_of
from spact_lib.video import write_video

AWKWARD = '-my "own"\n🙂: it\'s takes'  # of a table with a clip that is cut off
QUICK = Schedule(steps=2, batch=4, lr=1e-3).model_dump()


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve noise clips, upright and across: two gestures, two persons, three takes."""
    folder = tmp_path_factory.mktemp("takes")
    rng = np.random.default_rng(0)
    rows = ["path,split,take,gesture:single,person:single,traits:multi".split(",")]
    for n in range(12):
        shape = (20, 32, 40, 3) if n % 2 else (20, 40, 32, 3)
        name = f'-{n} it\'s "my" clip,\n🙂 $(x)&.avi'  # any name will do
        write_video(folder / name, rng.integers(0, 255, shape, dtype=np.uint8), 25, codec="mpeg4")
        rows.append([name, "train", f"{n // 4}", f"g{n % 2}", f"p{n // 2 % 2}", "a|b"])
    (folder / "cut.avi").write_bytes((folder / name).read_bytes()[:-3000])
    cut = ["cut.avi", "train", "0", "g0", "p0", ""]
    for table, its_rows in (("takes", rows), (AWKWARD, [*rows, cut])):
        with open(folder / f"{table}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(its_rows)
    return folder / "takes.csv"


def quick(store: Path) -> tuple[Profile, Store]:
    schedules = ("init_f_A", "init_f_T", "init_f_B", "minimax", "target_action", "target_privacy")
    return profile("smoke", **dict.fromkeys(schedules, QUICK)), Store(store)


def test_every_row_is_predicted_once_by_networks_that_never_saw_its_take(takes: Path, tmp_path: Path) -> None:
    settings, store = quick(tmp_path)
    studies = crossval.folds(settings, protocol(f"{takes}:gesture/person"), "take", store)
    assert list(studies) == ["0", "1", "2"]
    for value, study in studies.items():
        rows = manifest_of(study.data(study.protocol.action)).rows
        assert set(rows.loc[rows["split"] == "test", "take"]) == {value}
        assert value not in set(rows.loc[rows["split"] == "train", "take"])
    table = crossval.cross_validate(studies, ["raw", "spact"])
    assert list(table["method"]) == ["raw", "raw", "spact", "spact"] and set(table["n"]) == {12}
    assert set(table["chance"]) == {50.0}
    hits = 0
    for study in studies.values():  # counted once more, from what the targets saved
        probabilities, truth = predictions(study.store, study.target_spec(study.method("raw"), "action"))
        hits += int((probabilities.argmax(1) == truth).sum())
    assert table.loc[0, "correct"] == hits
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()
    frames = crossval.released_frames(studies, ["raw", "spact"])
    assert frames["raw"].shape == frames["spact"].shape == (9, 40, 40, 3)  # one size to look at, the rest is white
    assert [(frame[:4] == 255).all() or (frame[:, :4] == 255).all() for frame in frames["spact"]] == [True] * 9
    study = studies["0"]
    record = store.files(study.method("spact")) / "record.json"
    record.write_text(record.read_text().replace('"collapsed": false', '"collapsed": true'))
    said = crossval.cross_validate(studies, ["raw", "spact"])
    assert "collapsed" not in table and list(said["collapsed"]) == ["", "", *["SPAct without 0"] * 2]
    shown = notebook_figures.strips(study, study.method("spact"))
    assert [name for name in shown] == ["raw", "iteration 1", "iteration 2"]
    assert {row.shape for row in shown.values()} == {(4, 40, 40, 3)}


def test_the_command_writes_a_table_and_a_figure(
    takes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    monkeypatch.setitem(config.PROFILES, "smoke", quick(tmp_path)[0])
    monkeypatch.chdir(takes.parent)
    arguments = ["evaluate", "--action", "gesture", "--privacy", "person", "--leave-out", "take"]
    arguments += ["--profile", "smoke", "--methods", "raw, spact", "--bad-files"]
    for policy, status in (("stop", 2), ("skip", 0)):
        with pytest.raises(SystemExit) as stop:
            cli.main([*arguments, policy, "--", f"{AWKWARD}.csv"])
        assert stop.value.code == status
        said = capsys.readouterr()
        assert "cut.avi is cut off after" in (said.err if policy == "stop" else said.out)
    (path,) = (tmp_path / "tables" / "smoke").iterdir()
    assert path.name.startswith(f"evaluate_{AWKWARD}-") and path.suffix == ".csv" and f"table {path}" in said.out
    table = pd.read_csv(path)
    assert list(table["method"]) == ["raw", "raw", "spact", "spact"] and set(table["n"]) == {12}
    assert set(table["left_out"]) == {1}
    assert (tmp_path / "figures" / "smoke" / f"{path.stem}.png").stat().st_size > 0
    assert "| spact  | privacy |" in said.out and "1 rows are left out" in said.out
    records = [json.loads(path.read_text()) for path in (tmp_path / "store" / "target").glob("*/record.json")]
    assert records and all(record["metrics"]["set_aside"] == {"train": 1} for record in records)
    assert all(0 <= record["waited"] <= record["seconds"] + 0.1 for record in records)


def test_two_evaluations_share_no_table(takes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(crossval, "folds", lambda *_: {})
    monkeypatch.setattr(crossval, "cross_validate", lambda *_: pd.DataFrame({"method": ["raw"]}))
    monkeypatch.setattr(crossval, "released_frames", lambda *_: {"raw": np.zeros((1, 8, 8, 3), np.uint8)})
    copy = tmp_path / ("é" * 120 + ".csv")  # as long as a name may be
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(takes, tmp_path / folder / copy.name)
    first = [str(tmp_path / "a" / copy.name), "--action", "gesture", "--privacy", "person", "--leave-out", "take"]
    for n, asked in enumerate((first, first, [str(tmp_path / "b" / copy.name), *first[1:]], [*first, "--seed", "1"])):
        with pytest.raises(SystemExit) as stop:
            cli.main(["evaluate", *asked, "--profile", "smoke"])
        assert stop.value.code == 0
        assert len([*(tmp_path / "runs" / "tables" / "smoke").glob("*.csv")]) == max(1, n)


def test_what_cannot_be_left_out_is_said(takes: Path, tmp_path: Path) -> None:
    settings, store = quick(tmp_path)
    with pytest.raises(UserError, match="no column 'tke'.*take"):
        crossval.folds(settings, protocol(f"{takes}:gesture/person"), "tke", store)
    with pytest.raises(UserError, match="one value 'train'"):
        crossval.folds(settings, protocol(f"{takes}:gesture/person"), "split", store)
    with pytest.raises(UserError, match="'traits' is multi-label"):
        crossval.folds(settings, protocol(f"{takes}:gesture/traits"), "take", store)
    with pytest.raises(UserError, match="class 'p0' of task 'person' .* has test rows but no training row"):
        crossval.folds(settings, protocol(f"{takes}:gesture/person"), "person", store)
    studies = crossval.folds(settings, protocol(f"{takes}:gesture/person"), "take", store)
    with pytest.raises(UserError, match="unknown method 'spct'; choose one of: .*spact"):
        crossval.cross_validate(studies, ["raw", "spct"])
