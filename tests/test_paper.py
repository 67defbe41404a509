"""The paper's own numbers, and those of later works: looked up, and the drops that follow from them."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from spact_lib.errors import UserError
from spact_lib.methods import METHODS, TABLES, extra_rows, paper_rows
from spact_lib.paper import CSV, elsewhere, relative_drop, reported, reported_drop


@pytest.mark.parametrize(
    ("table", "row", "dataset", "metric", "printed"),
    [
        ("table1", "supervised", "vispr1", "cmap", 14),
        ("table1", "supervised", "vispr1", "f1", 17),
        ("table1", "supervised", "pa_hmdb51", "cmap", 11),
        ("table1", "supervised", "pa_hmdb51", "f1", 51),
        ("table1", "supervised", "phvu_object", "cmap", 83),
        ("table1", "supervised", "phvu_scene", "cmap", 63),
        ("table1", "spact", "vispr1", "cmap", 11),
        ("table1", "spact", "vispr1", "f1", 15),
        ("table1", "spact", "pa_hmdb51", "cmap", 11),
        ("table1", "spact", "pa_hmdb51", "f1", 56),
        ("table1", "spact", "phvu_object", "cmap", 88),
        ("table1", "spact", "phvu_scene", "cmap", 62),
        ("table2", "supervised", "vispr1_to_vispr2", "cmap", 14),
        ("table2", "supervised", "vispr1_to_vispr2", "f1", 20),
        ("table2", "supervised", "phvu_scene_to_object", "cmap", 46),
        ("table2", "spact", "vispr1_to_vispr2", "cmap", 18),
        ("table2", "spact", "vispr1_to_vispr2", "f1", 22),
        ("table2", "spact", "phvu_scene_to_object", "cmap", 88),
    ],
)
def test_reported_numbers_give_the_drops_that_the_paper_prints(table, row, dataset, metric, printed):
    assert reported_drop(table, row, dataset, metric) == pytest.approx(printed, abs=1)


def test_every_drop_that_the_paper_prints_is_the_relative_drop(shared_data):
    """Straight from its text: cells like "55.32↓14%" below the raw row of the same column."""
    checked, raw = 0, []
    for line in (shared_data.parent / "paper" / "SPAct-paper.txt").read_text(encoding="utf-8").splitlines():
        cells = re.sub(r"</?b>", "", line).split("\t")
        raw = cells if cells[0] == "Raw data" else raw
        for cell, before in zip(cells, raw, strict=False):
            if printed := re.fullmatch(r"([\d.]+)↓(\d+)%", cell):
                assert relative_drop(float(printed[1]), float(before)) == pytest.approx(int(printed[2]), abs=1), line
                checked += 1
    assert checked == 18  # as many as the test above lists


def test_reported_numbers_are_looked_up_not_guessed():
    assert reported("table1", "spact", "ucf101", "top1") == 62.03
    assert reported("table1", "identity", "ucf101", "top1") is None
    assert reported_drop("table1", "noise_features", "phvu_action", "cmap") is None
    with pytest.raises(UserError, match="unknown table of the paper 'table9'; choose one of: table1, table2"):
        reported("table9", "spact", "ucf101", "top1")
    assert np.isnan(relative_drop(0.1, 0.0))


def test_every_row_that_the_paper_prints_is_one_of_ours():
    printed = pd.read_csv(CSV).groupby("table")["row"].unique()
    for name in TABLES:
        assert set(paper_rows(name).values()) == set(printed[name]) and set(extra_rows(name)) <= set(METHODS)


def test_what_later_works_report_stands_beside_their_own_raw_lines():
    table = elsewhere()
    for _, lines in table.groupby(level=["data", "source"]):
        assert lines.index.get_level_values("row")[0] == "raw" and len(lines) > 1
        assert not lines.iloc[0].str.contains("%").any() and (lines.iloc[0] == "–").equals(lines.iloc[1] == "–")
    of_spact = table.xs("SPAct", level="row").set_index(table.xs("SPAct", level="row").index.get_level_values("data"))
    assert of_spact.loc["P-HVU", "objects cMAP"] == "14.02 (−10.8 %)"  # 100 (14.02 - 15.72) / 15.72
    assert of_spact.loc["PA-HMDB51", "privacy F1"] == "0.543 (−5.1 %)"


def test_reported_csv_is_complete():
    rows = pd.read_csv(CSV)
    assert not rows.duplicated(["table", "row", "dataset", "metric"]).any() and rows["value"].notna().all()
    assert json.loads(rows.groupby("table").size().to_json()).keys() == {f"table{k}" for k in range(1, 7)}
