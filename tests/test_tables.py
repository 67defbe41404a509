"""Tables from records alone, and their text."""

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import SCORES, made_up_records
from scipy import stats

from spact_lib import figures, notebook_tables, plan, result_figures, results, table_text, tables
from spact_lib.config import DataSpec
from spact_lib.errors import UserError
from spact_lib.methods import METHODS, TABLES, LearnedMethod, extra_rows
from spact_lib.paper import reported
from spact_lib.protocols import protocol
from spact_lib.store import NotTrainedError
from spact_lib.study import Study


def test_table1_from_committed_records_alone(committed):
    table = tables.table("table1", committed[0])
    assert list(table.index.unique("metric")) == ["action top-1", "privacy cMAP", "privacy F1"]
    assert list(table.index.unique("method")) == list(TABLES["table1"])
    spact = table.loc["privacy cMAP", "spact"]
    assert spact["here"] == pytest.approx(60.0) and spact["chance"] == 30.0  # mean over two target seeds
    assert spact["drop"] == pytest.approx(25.0)
    assert spact["paper"] == 57.43 and spact["paper drop"] == pytest.approx(100 * (64.41 - 57.43) / 64.41)
    assert spact["difference"] == pytest.approx(spact["drop"] - spact["paper drop"])
    assert (spact["omega"], spact["seeds"], spact["replicates"]) == ("0.25", "0 1", 1)
    assert spact["hardware"] == "cpu (test), threads: 2"
    # init_f_A, f_T, f_B, two omegas (2 min each); 4 targets of the chosen one, 1 action target of the other and of raw.
    assert spact["minutes"] == pytest.approx(5 * 2 + 2 * 1 + 2 * 0.5 + 2)
    assert table.loc[("privacy cMAP", "raw"), "minutes"] == pytest.approx(3)
    assert np.isnan(table.loc[("privacy F1", "identity"), "paper"])
    assert table.loc[("action top-1", "raw"), "omega"] == ""


def test_the_raw_row_is_always_there_because_drops_are_from_it(committed):
    table = tables.table("table1", committed[0], methods=["supervised"])
    assert list(table.index.unique("method")) == ["raw", "supervised"]
    assert table.loc[("privacy cMAP", "supervised"), "drop"] == pytest.approx(100 * (1 - 50 / 80))
    assert table_text.gap(table).count("\n") == 2  # how many replicates; Supervised [41]; its omega


def test_oracle_boxes_are_named_wherever_a_method_is(committed):
    named = "Obf-Blackening (oracle boxes)"
    table = tables.table("table1", committed[0], methods=["raw", "obf_blackening"])
    text = table_text.printable(table)
    assert list(table["boxes"]) == ["", "oracle"] * 3 and "boxes" not in text
    assert list(text.index.unique("method")) == ["Raw data", named] and named in table_text.Shown(table)._repr_html_()
    assert list(tables.labelled(committed[0], ["raw", "obf_blackening"])) == ["Raw data", named]
    assert tables.label("obf_blackening", "coco") == "Obf-Blackening"
    _, (panel,) = result_figures.trade_off(table)
    assert "oracle boxes" in panel.get_title()
    plt.close("all")


def test_further_rows_are_asked_for_by_name_and_say_whose_boxes_they_trust(committed):
    assert not set(extra_rows("table1")) & set(TABLES["table1"])
    table = tables.table("table1", committed[0], methods=["raw", "obf_weak_blur"])
    row = table.loc["privacy cMAP", "obf_weak_blur"]
    assert (row["here"], row["paper"]) == (79.0, reported("table1", "obf_weak_blur", "vispr1", "cmap"))
    text = table_text.printable(table)
    assert list(text.index.unique("method")) == ["Raw data", "Obf-WeakBlur (oracle boxes)"] and "boxes" not in text


def test_further_rows_that_are_not_run_are_named_with_their_minutes(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    study = committed[0]
    rows = ["obf_blackening", "obf_strong_blur", "tedspad"]
    table = notebook_tables.further_rows("table1", study, rows, "rows", train=False)
    assert list(table.index.unique("method")) == ["raw", "spact", "obf_blackening"]
    out = capsys.readouterr().out
    # A target took 60 s (seven of the thirteen at hand; the others 30), a game 120. Missing: four targets of a blur; of
    # TeD-SPAD two games, and five targets, one of them to choose omega.
    assert f"not run, about {(9 * 60 + 2 * 120) / 60:.0f} minutes of training" in out
    assert "here: Obf-Blackening\n" in out and out.endswith(": Obf-StrongBlur; TeD-SPAD's L_T\n")
    assert (tmp_path / "tables" / "mini" / "table1_rows-seed1-targets0_1.csv").exists()
    assert notebook_tables.further_rows("table1", study, ["tedspad"], "rows", train=False) is None
    with pytest.raises(UserError, match="unknown method 'obf'"):
        notebook_tables.further_rows("table1", study, ["obf"], "rows", train=False)


def test_further_rows_of_the_paper_are_drawn_beside_the_table_where_they_are_at_hand(
    committed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    by_pair = {(study.profile.draw, study.seed): study for study in committed}
    monkeypatch.setattr(tables, "open_study", lambda profile, draw, seed, **_: by_pair[draw, seed])
    table = tables.table("table1", *committed)
    asked = "ucf101_vispr1", list(by_pair), (0, 1), "rows"
    rows = notebook_tables.with_further_rows("table1", table, committed[0], *asked)
    further = ["obf_blackening", "obf_weak_blur"]
    assert list(rows.index.unique("method")) == [*TABLES["table1"], *further]
    assert rows.loc[("privacy cMAP", "obf_blackening"), "here"] == 65.0  # of two replicates, as the table
    pd.testing.assert_frame_equal(rows.loc[table.index], table)
    in_order = [metric for metric, _ in itertools.groupby(rows.index.get_level_values("metric"))]
    assert in_order == [*rows.index.unique("metric")]  # column by column, as every table
    rows.loc[[("privacy cMAP", "obf_blackening")], ["low", "high", "drop low", "drop high"]] = math.nan  # of one
    shown = table_text.printable(rows).loc["privacy cMAP"]
    assert (shown.loc[shown.index.str.contains("Blackening"), ["interval", "drop interval"]] == "").all(axis=None)
    assert shown.loc["SPAct", "interval"].startswith("[")
    assert (tmp_path / "tables" / "mini" / "rows.csv").exists()
    out = capsys.readouterr().out
    assert "further row: Obf-Blackening (oracle boxes), replicates: 2\n" in out
    assert out.endswith(": Obf-StrongBlur; Noise-features (after [46])\n")
    kept = (tmp_path / "records" / "mini" / "rows.jsonl").read_text(encoding="utf-8")
    assert len(kept.splitlines()) == (1 + len(further)) * 2 * 4  # raw's too; two replicates, of four targets each


def test_further_columns_and_other_targets_that_are_not_run_are_named_with_their_minutes(
    committed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    study = committed[0]
    tables.table("table1", study)  # so that it is known how long a target takes: 60 s, a game 120, an f_A 30
    columns = ["ucf101_vispr1", "phvu_scene_to_object"]
    assert set(notebook_tables.further_columns("table1", study, columns, train=False).index.unique("metric"))
    out = capsys.readouterr().out
    assert out.startswith("further columns: ucf101_vispr1\nnot run, about ")
    # Two of the paper's other rows are missing, too.
    assert out.endswith(
        ": phvu_scene_to_object (no data yet, not counted); Obf-StrongBlur; Noise-features (after [46])\n"
    )
    study._data["phvu"] = DataSpec(name="phvu", folder=tmp_path, fingerprint="phvu")
    assert notebook_tables.further_columns("table1", study, columns[1:], train=False) is None
    seconds = {record["kind"]: [] for record in study.store.used.values()}
    for record in study.store.used.values():
        seconds[record["kind"]].append(record["seconds"])
    # Targets: 10 rows x 2 x 2 seeds, to choose omega (or sigma) those of raw, 2 x 2 games and 3 of noise, whose second
    # seed is another; the chosen ones among them.
    counts = {"target": 10 * 4 + 4, "anonymizer": 4 + 3, "init_f_A": 1, "init_f_T": 1, "init_f_B": 2}
    minutes = sum(n * np.median(seconds[kind]) for kind, n in counts.items()) / 60
    assert capsys.readouterr().out.endswith(
        f"not run, about {minutes:.0f} minutes of training (this notebook's TRAIN parameters): phvu_scene_to_object\n"
    )  # as --full has other target seeds
    monkeypatch.setattr(notebook_tables, "suffix", lambda *_: "")
    notebook_tables.further_columns("table1", study, columns[1:], train=False)
    assert "(spact reproduce --full): phvu_scene_to_object" in capsys.readouterr().out
    monkeypatch.setattr(notebook_tables, "is_own", lambda dataset: True)
    assert notebook_tables.further_columns("table1", study, columns, train=False) is None
    assert capsys.readouterr().out == "further columns: of the paper's datasets alone, not of one's own\n"
    assert notebook_tables.other_targets("table1", study, "ucf101_vispr1", (), (), train=False) is None
    assert f"not run, about {6 * 4 * np.median(seconds['target']) / 60:.0f} minutes" in capsys.readouterr().out


def test_without_records_of_omegas_that_were_not_taken_a_row_has_no_minutes(committed):
    path = results.RECORDS / "table1.jsonl"
    other = committed[0].anonymizer("spact", 0.5).key()
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["key"] != other]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = tables.table("table1", committed[0], methods=["supervised", "spact"])
    minutes = table.loc["privacy cMAP", "minutes"]
    assert np.isnan(minutes["spact"]) and minutes[["raw", "supervised"]].notna().all()
    assert table.loc[("privacy cMAP", "spact"), "here"] == 60.0
    assert table_text.printable(table).loc[("privacy cMAP", "SPAct"), "minutes"] == ""


def test_a_record_that_is_older_than_what_it_was_made_of_is_of_other_networks(committed):
    """As a start that another machine has made anew, with other weights, and targets that have read the old one."""
    study, path = committed[0], results.RECORDS / "table1.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    again = next(record for record in records if record["key"] == study.init_f_A.key()) | {"made": "2027"}
    (results.RECORDS / "later.jsonl").write_text(json.dumps(again) + "\n", encoding="utf-8")  # read before table1.jsonl
    results._committed.cache_clear()
    assert study.store.run(study.init_f_A).record["made"] == "2027"  # the newest counts, in whichever file it is
    for row in ("raw", "downsample_2x"):
        assert tables.is_at_hand("table1", tables.reading(study), methods=[row])
    for row in ("identity", "spact"):
        assert not tables.is_at_hand("table1", tables.reading(study), methods=[row])
    assert tables.is_at_hand("table1", tables.reading(committed[1]), methods=["spact"])


def test_targets_of_other_architectures_read_the_same_anonymizers(committed):
    study = committed[0]
    study._chosen["noise_features"] = study.noise_features(0.5), {0.5: 90.0}
    read = study.read_by("mc3_slim_motion", "slim8", ["noise_features", "frozen_f_B"])
    assert read.method("noise_features") == study.noise_features(0.5)
    assert read.method("frozen_f_B").omega == read.method("spact").omega == 0.25
    assert read.tried("noise_features") == read.tried("frozen_f_B") == []


def test_rows_of_the_claims_are_those_that_all_of_them_have(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    by_pair = {(study.profile.draw, study.seed): study for study in committed}
    monkeypatch.setattr(tables, "open_study", lambda profile, draw, seed, **_: by_pair[draw, seed])
    monkeypatch.setattr(notebook_tables, "REPLICATES", list(by_pair))
    table = notebook_tables.rows_of_claims("table1", committed[0], "ucf101_vispr1", ["raw", "spact"], (), "claimed")
    assert list(table.index.unique("method")) == ["raw", "spact"] and set(table["replicates"]) == {2}
    assert table.loc[("privacy cMAP", "spact"), "here"] == 61.0
    assert (tmp_path / "tables" / "mini" / "claimed.csv").exists()
    asked = "table1", committed[0], "ucf101_vispr1", ["raw", "noise_features"], (), "claimed"
    assert notebook_tables.rows_of_claims(*asked) is None
    assert capsys.readouterr().out == "no records of the claims' replicates\n"


def test_other_targets_are_a_mean_over_the_replicates_that_have_them(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    by_pair = {(study.profile.draw, study.seed): study for study in committed}
    monkeypatch.setattr(tables, "open_study", lambda profile, draw, seed, **_: by_pair[draw, seed])
    asked = "ucf101_vispr1", list(by_pair), (0, 1)
    assert notebook_tables.other_targets("table1", committed[0], *asked, train=False) is None
    assert "not run, about" in capsys.readouterr().out
    p = committed[1].profile
    read = committed[1].read_by(p.other_target_f_T, p.other_target_f_B, TABLES["table1"])
    results.keep_records(made_up_records(read, shift=-5.0), tmp_path / "records", "others")  # of the second one alone
    table = notebook_tables.other_targets("table1", committed[0], *asked, train=False)
    assert table.loc[("privacy cMAP", "spact"), "here"] == 60.0 - 5
    assert set(table["which"]) == {tables.replicate(committed[1])} and set(table["replicates"]) == {1}
    out = capsys.readouterr().out
    assert "not run, about" in out and "\nread by f'_T mc3_slim_motion for r3d_slim_motion, f'_B slim8 for" in out


def test_the_official_f1_stands_beside_ours_where_it_is_asked_for(committed, monkeypatch):
    scores = Study.scores

    def with_official(self, method, target, seed):
        extra = {"f1_official": 0.25} if target == "privacy" else {}
        return [metrics | extra for metrics in scores(self, method, target, seed)]

    monkeypatch.setattr(Study, "scores", with_official)
    table = tables.table("table1", committed[0], methods=["raw"], metrics=tables.WITH_OFFICIAL_F1)
    assert table.loc[("privacy raw-logit F1", "raw"), ["here", "chance"]].tolist() == [0.25, 0.4]
    assert "privacy raw-logit F1" not in tables.table("table1", committed[0], methods=["raw"]).index.unique("metric")


def test_a_row_of_methods_needs_no_other_line(committed, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", LearnedMethod("nt_xent", f_B_steps=2, omega=0.5))
    monkeypatch.setitem(SCORES, "mine", (80.0, 55.0, 0.5))
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    results.keep_records(made_up_records(committed[0], shift=0.0), tmp_path / "records", "mine")
    table = notebook_tables.further_rows("table1", committed[0], extra_rows("table1"), "rows", train=False)
    assert table.loc[("privacy cMAP", "mine"), "here"] == 55.0 and np.isnan(table.loc["privacy cMAP", "mine"]["paper"])
    assert "mine" in table_text.printable(table).index.unique("method")
    look = figures.colour("mine"), figures.marker("mine")
    assert look not in [(figures.colour(name), figures.marker(name)) for name in METHODS if name != "mine"]
    assert [name for name, _, methods in plan.planned_rows(full=True) if "mine" in methods] == ["table1"]


def test_replicates_are_averaged_and_their_spread_stated(committed):
    table = tables.table("table1", *committed)
    row = table.loc["privacy cMAP", "spact"]
    interval = stats.ttest_1samp([60, 62], 0).confidence_interval(0.95)
    assert row["here"] == pytest.approx(61.0) and (row["low"], row["high"]) == pytest.approx(tuple(interval))
    drops = [100 * (1 - 60 / 80), 100 * (1 - 62 / 82)]  # within a replicate, then averaged
    interval = stats.ttest_1samp(drops, 0).confidence_interval(0.95)
    assert row["drop"] == pytest.approx(np.mean(drops))
    assert (row["drop low"], row["drop high"]) == pytest.approx(tuple(interval))
    assert row["replicates"] == 2
    text = table_text.printable(table).loc["privacy cMAP", "SPAct"]
    assert text["interval"] == "[48.3, 73.7]" and text["drop interval"] == f"[{interval.low:.1f}, {interval.high:.1f}]"
    assert table_text.gap(table).startswith(
        "Mean of 2 replicates, 2 target seeds each: draw 1, seed 1; draw 1, seed 2. Draws up to 3 were seen while this "
        "was built.\n"
    )


def test_a_missing_record_is_refused_not_replaced(committed):
    study = replace(committed[0], seed=7)
    with pytest.raises(NotTrainedError, match="training is forbidden"):
        tables.table("table1", study)


def test_a_replicate_is_not_averaged_with_itself(committed):
    once, twice = (tables.table("table1", *([committed[0]] * n)) for n in (1, 2))
    assert twice.equals(once) and set(twice["replicates"]) == {1}


def test_at_hand_keeps_what_needs_no_training(committed, monkeypatch):
    by_draw = {1: committed[0], 2: committed[1], 3: replace(committed[0], seed=7)}
    monkeypatch.setattr(tables, "open_study", lambda name, *, draw, **rest: by_draw[draw])
    found = tables.at_hand("table1", "mini", "ucf101_vispr1", [[3, 0], [1, 0], [2, 0]])
    assert [study.seed for study in found] == [1, 2]


def test_text_is_rounded_labelled_and_the_same_every_time(committed, tmp_path, monkeypatch):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    table = tables.table("table1", committed[0])
    text = table_text.printable(table)
    assert text.loc[("privacy cMAP", "SPAct"), ["here", "drop %", "paper drop %"]].tolist() == ["60.0", "25.0", "10.8"]
    assert text.loc[("privacy F1", "SPAct"), "here"] == "0.500"
    assert text.loc[("privacy F1", "Identity (Eq. 4 only)"), "paper"] == ""
    saved = pd.read_csv(table_text.save_table(table, "mini", "table1"), dtype=str, keep_default_na=False)
    assert saved.set_index(["metric", "method"]).equals(text)
    latex = (tmp_path / "tables" / "mini" / "table1.tex").read_text()
    assert re.search(r"& SPAct & \\bfseries 60\.0 &", latex) and latex.count(r"\multirow") == 3
    assert "drop \\%" in latex and not re.search(r"(?<!\\)%", latex.split("\n", 1)[1])
    assert "target seeds: 0 1; replicates: 1; hardware: cpu (test), threads: 2. here: mean over" in latex
    first, second = (table_text.Shown(tables.table("table1", committed[0])) for _ in range(2))
    assert first.note.endswith(" over which a cMAP is the mean: privacy cMAP 7.")
    assert first._repr_html_() == second._repr_html_() and repr(first) == repr(second)
    assert "font-weight: bold" in first._repr_html_()


def test_the_gap_is_computed(committed):
    text = table_text.gap(tables.table("table1", committed[0]))
    assert "One replicate has no interval" in text
    assert "SPAct: action top-1 −1.0 points from raw (paper −0.3); privacy cMAP −25.0 % (paper −10.8)" in text
    assert "Above chance, SPAct leaves 30.0 of raw's 50.0 points of privacy cMAP" in text
    assert "\nprivacy cMAP, SPAct less the identity row: −16.0 points; Table 3 has the row without f_B" in text
    again = tables.table("table1", committed[0]).loc[["action top-1"]].rename({"action top-1": "action again top-1"})
    assert table_text.gap(pd.concat([tables.table("table1", committed[0]), again])) == text
    low = tables.table("table1", committed[0])
    low.loc["privacy cMAP", "chance"] = 85.0
    assert "Raw data's privacy cMAP is not above chance: there is nothing" in table_text.gap(low)
    alone = tables.table("table1", committed[0]).rename(index={"downsample_2x": "no_f_B"}, level="method")
    assert "the row without f_B less the identity row: −4.0, which L_T does alone." in table_text.gap(alone)
    assert "\nSupervised [41] in 1 of 1 replicates: the largest omega" in text  # SPAct took 0.25 of 0.5 and 0.25


def test_the_gap_of_an_ablation_is_taken_from_spact():
    metrics, methods = ("action top-1", "privacy cMAP", "privacy F1"), ("raw", "spact", "rotnet")
    index = pd.MultiIndex.from_product([metrics, methods], names=["metric", "method"])
    here = [90.0, 89.0, 85.0, 80.0, 60.0, 70.0, 0.8, 0.5, 0.65]
    paper = [np.nan, 62.1, 58.1, np.nan, 57.4, 60.2, np.nan, 0.473, 0.504]
    table = pd.DataFrame({"here": here, "paper": paper, "drop": 1.0, "paper drop": 2.0, "chance": 30.0}, index=index)
    text = table_text.gap(table.assign(replicates=1, seeds="0", which="seed 0", largest=""))
    expected = "action top-1 −4.0 points (paper −4.0); privacy cMAP +10.0 points (paper +2.8)"
    assert f"RotNet, less SPAct: {expected}; privacy F1 +0.150 (paper +0.031).\n" in text
    assert "SPAct: action top-1 −1.0 points from raw (paper −1.3);" in text  # its drop tells its raw: 62.1 / 0.98


def test_an_omega_curve_needs_the_grid_and_shows_what_is_at_hand(committed):
    curve = tables.omega_curve(committed[0], [0.1, 0.5], always=[0.25])  # nobody has trained 0.1
    assert curve.index.tolist() == [0.25, 0.5] and curve["privacy"].tolist() == [60.0, 60.0]
    assert curve["action"].tolist() == [89.0, 89.0]
    for options in ({"train": True}, {"always": [0.1]}):
        with pytest.raises(NotTrainedError):
            tables.omega_curve(committed[0], [0.1], **options)


def test_an_omega_curve_shows_the_first_column_of_both_axes(committed, monkeypatch):
    """As the table's points do: on another dataset's test rows, or of another target than "privacy"."""
    asked = []

    def scores(self, method, target, seed):
        asked.append(target)
        column = {"cmap": 50.0, "cmap_chance": 20.0}
        return [column, {"cmap": 0.0, "cmap_chance": 0.0}]

    monkeypatch.setattr(Study, "scores", scores)
    monkeypatch.setattr(Study, "score_spec", lambda *_: committed[0].init_f_A)
    monkeypatch.setattr(tables, "trained_parts", lambda spec: {})
    one = replace(committed[0], protocol=protocol("phvu"), _data={"phvu": committed[0].init_f_A.action})
    curve = tables.omega_curve(one, [0.5])
    assert set(asked) == {"action", "object"}
    assert curve.loc[0.5, ["action", "privacy", "privacy chance"]].tolist() == [50, 50, 20]
    with pytest.raises(UserError, match="a trade-off needs an action and a privacy target, not action alone"):
        tables.omega_curve(replace(one, protocol=protocol("ucf101_to_pa_hmdb51")), [0.5])


def test_kept_records_give_the_table_again(committed, tmp_path, monkeypatch):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    expected = table_text.printable(tables.table("table1", committed[0]))
    kept = tables.keep_used("table1-draw1", committed[0])
    assert kept == tmp_path / "records" / "mini" / "table1-draw1.jsonl"
    monkeypatch.setattr(results, "RECORDS", kept.parent)
    assert table_text.printable(tables.table("table1", committed[0])).equals(expected)
    altered = kept.read_text().replace('"cmap": 60.5', '"cmap": 70.5')
    kept.write_text(altered)
    results._committed.cache_clear()
    assert not table_text.printable(tables.table("table1", committed[0])).equals(expected)


def change(folder: Path, changes: dict[str, dict]) -> None:
    """Further metrics of committed records, by key."""
    kept = {record["key"]: record for record in map(json.loads, (folder / "table1.jsonl").read_text().splitlines())}
    for key, metrics in changes.items():
        kept[key]["metrics"] |= metrics
    results.keep_records(kept, folder, "table1")


LEFT_OUT = (
    "Rows left out, because their files are missing or cannot be used: ucf101-1 1 test; ucf101-1 3 train; "
    "vispr1 2 train."
)
COLLAPSED = "Not a result: f_A has collapsed to one picture, which hides the action too: SPAct"


def test_rows_that_were_left_out_and_a_collapsed_f_A_are_said_wherever_the_table_is(
    committed, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    study, path = committed[0], tmp_path / "tables" / "mini" / "table1.tex"

    def everywhere() -> list[str]:
        table = tables.table("table1", *committed)
        csv, shown = table_text.save_table(table, "mini", "table1").read_text(), table_text.Shown(table)
        return [table_text.gap(table), csv, path.read_text(), repr(shown), shown._repr_html_()]

    assert not any("left out" in text or "collapsed" in text or ",note" in text for text in everywhere())
    away = {"set_aside": {"train": 3, "test": 1}}
    scored = {study.target_spec(study.method("raw"), "action", seed).key(): away for seed in (0, 1)}
    start = {"set_aside_of": {"vispr1": {"train": 2}, "ucf101-1": {"train": 3}}}
    spact = study.method("spact").key()
    change(tmp_path / "records", scored | {study.init_f_A.key(): start, spact: {"collapsed": True}})
    for text in everywhere():
        for sentence in (LEFT_OUT, f"{COLLAPSED}."):
            assert sentence in text.replace("\\_", "_"), text
    assert "ucf101-1" not in table_text.printable(tables.table("table1", *committed)).to_string()


def test_figure_4_says_which_omega_collapsed(committed, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    study, saved = committed[0], tmp_path / "tables" / "mini" / "figure4.csv"
    notebook_tables.show_omegas(study, {"spact": []}, "figure4", train=False)
    plain = (capsys.readouterr().out, saved.read_text())
    change(tmp_path / "records", {study.anonymizer("spact", 0.5).key(): {"collapsed": True}})
    notebook_tables.show_omegas(study, {"spact": []}, "figure4", train=False)
    said = (capsys.readouterr().out, saved.read_text(), saved.with_suffix(".tex").read_text())
    assert not any("collapsed" in text for text in plain) and said[0] == f"{plain[0]}{COLLAPSED}, omega 0.5.\n"
    assert all(f"{COLLAPSED}, omega 0.5." in text.replace("\\_", "_") for text in said)
