"""Attackers, as readers are told of them: the table, the sentences, the figure."""

import math

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest

from spact_lib import attack_readings, attack_report, attacks, figures
from spact_lib.attacks import Attack

# (attacker, method) -> what he reads in replicates 0, 1, ...; on validation rows one point more.
CELLS = {
    ("unprepared", "downsample_4x"): [30.0, 32.0], ("unprepared", "spact"): [26.0],
    ("short", "spact"): [70.0, 74.0], ("short", "downsample_4x"): [44.0, 44.0],
    ("own", "downsample_4x"): [51.0, 53.0], ("own", "spact"): [48.0, 52.0],
    ("larger", "downsample_4x"): [49.0, 49.0], ("larger", "spact"): [54.0, 60.0],
    ("long", "spact"): [99.0],  # of one replicate alone: nobody to choose
    ("own", "raw"): [89.0, 91.0], ("float", "spact"): [51.0, 57.0],
    ("own", "moco"): [60.0], ("own", "identity"): [88.0, 88.0],
}  # fmt: skip
VAL = {("short", "spact"): 40.0}  # its test rows, which must not be looked at, are the best


def long_frame(cells: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    rows = [
        {"attack": attack, "method": method, "replicate": f"draw {k}, seed {k}", "here": here, "chance": 25.0,
         "val": math.nan if attack == "unprepared" else VAL.get((attack, method), here + 1), "effort": 1.0,
         "low": math.nan, "high": math.nan, "boxes": "", "set_aside": "", "collapsed": ""}
        for (attack, method), each in cells.items() for k, here in enumerate(each)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=attack_readings.COLUMNS)


@pytest.fixture
def made_up() -> pd.DataFrame:
    """Two replicates: validation chooses the larger network for SPAct, which reads more than the own one and turns the
    order round."""
    return long_frame(CELLS)


def test_validation_chooses_the_strongest_of_those_that_all_replicates_have(made_up: pd.DataFrame) -> None:
    best = attack_readings.strongest(made_up)
    assert best["attack"].to_dict() == {
        "spact": "larger", "downsample_4x": "own", "raw": "own", "moco": "own", "identity": "own",
    }  # fmt: skip
    assert best["among"].to_dict() == {"spact": 3, "downsample_4x": 3, "raw": 1, "moco": 1, "identity": 1}
    apart = long_frame(CELLS | {("own", "moco"): [60.0]})
    apart = pd.concat([apart, long_frame({("long", "moco"): [70.0]}).assign(replicate="another")])
    assert "moco" not in attack_readings.strongest(apart).index  # no classifier that both replicates have


def test_sentences_are_the_numbers(made_up: pd.DataFrame) -> None:
    text = attack_report.sentences(made_up)
    # Shares: of those that raw data have met, 23 / 64 and 27 / 66, mean 38.4 %.
    assert (
        "SPAct: learned on raw 26.0 (1), inverted first not run, tables' attacker 50.0, strongest of 3 by "
        "validation (larger network) 57.0, chance 25.0; of what is read of raw data above chance, 38.4 [6.8, 70.0] % "
        "is left to the strongest (that of the tables)." in text
    )
    assert "inverted first –, tables' attacker 90.0, the only classifier run (that of the tables) 90.0," in text
    assert "MoCo: learned on raw not run" in text and "54.7 (1) % is left" in text  # 35 / 64, of replicate 0
    assert "the other way by the strongest of several shared ones: none." in text
    undone = attack_report.sentences(long_frame(CELLS | {("inverted", "spact"): [60.0]}))  # 54 is the strongest's
    assert "of the tables); who inverts first reads 6.0 (1) points more." in undone and "points more" not in text
    far = long_frame(CELLS | {("own", "spact"): [46.0, 50.0]})  # 4 points below: now the order turns
    assert (
        "of several shared ones: SPAct over Downsample-4x −4.0 [−16.7, +8.7], then +5.0 [−20.4, +30.4]."
    ) in attack_report.sentences(far)
    alone = far[(far["attack"] != "larger") | (far["method"] != "downsample_4x")]  # it has not met the larger one
    assert "of several shared ones: none." in attack_report.sentences(alone)
    enlarged = far[(far["attack"] == "own") & (far["method"] == "downsample_4x")].assign(attack="enlarged", here=70.0)
    text = attack_report.sentences(pd.concat([far, enlarged.assign(val=70.0)]))  # he alone can exist: he counts
    assert "of several shared ones: none." in text


def test_the_tables_attacker_beside_stronger_ones(made_up: pd.DataFrame) -> None:
    text = attack_report.brief(made_up)
    assert text.loc["SPAct"].tolist() == ["50.0", "57.0", "38.4 [6.8, 70.0]", "not run"]
    assert text.loc["Raw data", "of raw data's"] == "100"


def test_clips_are_read_by_who_learned_on_the_release_and_by_who_did_not(made_up: pd.DataFrame) -> None:
    spact = made_up[(made_up["method"] == "spact") & (made_up["replicate"] == "draw 0, seed 0")]
    assert attack_report.of_clips(spact) == (
        "SPAct: who learned on raw data alone reads 26.0 %, those that learned on the release 48.0 to 99.0 %; "
        "chance 25.0 %."
    )
    without = spact[spact["attack"] != "unprepared"]
    assert attack_report.of_clips(without) == "SPAct: those that learned on the release 48.0 to 99.0 %; chance 25.0 %."
    assert attack_report.of_clips(spact[:0]) == ""
    raw = made_up[made_up["method"] == "raw"]
    assert attack_report.of_clips(raw) == "Raw data: attackers read 90.0 %; chance 25.0 %."


def test_differences_are_of_replicates_that_have_both(made_up: pd.DataFrame) -> None:
    text = attack_report.sentences(made_up)
    assert "What 8-bit frames instead of unrounded ones give the attacker, points: SPAct −4.0 [−16.7, +8.7]." in text
    frame = long_frame({("frame", "spact"): [60.0, 64.0]})
    views = long_frame({("views", "spact"): [66.0, 70.0]}).assign(chance=26.5)
    text = attack_report.sentences(pd.concat([made_up, frame, views]))
    assert "What 5 frames of a video instead of one give the attacker, points: SPAct +4.5 [+4.5, +4.5]." in text
    small = {("enlarged", "downsample_4x"): [61.0, 63.0], ("float", "downsample_4x"): [64.0, 66.0]}
    small = long_frame(CELLS | small)  # who sees unrounded frames enlarges them, too
    text = attack_report.sentences(small)
    assert "unrounded ones give the attacker, points: Downsample-4x −3.0 [−3.0, −3.0], SPAct −4.0" in text
    assert "enlarged again, instead of as they are, give the attacker, points: Downsample-4x +10.0" in text
    _, channel = attack_report.curves(small).axes
    assert (62, 65) in [tuple(line.get_ydata()) for line in channel.lines]
    one = long_frame(CELLS | {("float", "spact"): [51.0]})  # not 50 - 51, of other replicates, but 48 - 51
    assert "give the attacker, points: SPAct −3.0 (1)." in attack_report.sentences(one)


def test_the_table_says_what_is_not_run_and_of_how_many_replicates_it_is(made_up: pd.DataFrame) -> None:
    shown = attack_report.Shown(made_up, ["raw", "spact", "supervised"], ["unprepared", "inverted", "larger", "clips"])
    text = shown.text
    assert list(text.columns) == ["effort", "chance", "Raw data", "SPAct", "Supervised [41]"]
    assert list(text["SPAct"]) == ["26.0 (1)", "57.0 [18.9, 95.1]"]
    assert list(text["Raw data"]) == ["not run", "not run"]
    assert (text["Supervised [41]"] == "not run").all() and list(text["chance"]) == ["25.0", "25.0"]
    nowhere = "learned on raw data, inverts first; 5 clips of a video, 3-D network"
    assert f"Not run on anything: {nowhere}." in shown.note
    assert list(attack_report.printable(made_up, ["raw"], ["enlarged", "own"])["Raw data"]) == ["90.0 [77.3, 102.7]"]
    assert "Replicates: 2; of a cell with fewer, their number is in brackets. " in shown._repr_html_()


def test_the_figure_draws_these_numbers_and_the_chance_line(made_up: pd.DataFrame) -> None:
    still, channel = attack_report.curves(made_up).axes
    names = [tick.get_text().split("\n")[0] for tick in still.get_xticklabels()]
    assert names == ["learned", "short", "tables'", "large", "long"]
    assert [tick.get_text() for tick in channel.get_xticklabels()] == ["8-bit", "float"]  # from weak to strong
    lines = [tuple(line.get_ydata()) for line in still.lines if line.get_linestyle() == "-"]
    assert {(72, 50), (50, 57)} <= set(lines)  # a chain is joined
    assert not any(99 in line or 60 in line for line in lines)  # "long" follows on none; "own" of MoCo stands alone
    marks = {line.get_ydata()[0]: line for line in still.lines if line.get_marker() == "*" and len(line.get_ydata())}
    assert list(marks) == [26, 72, 50, 57, 99]
    hollow = [value for value, mark in marks.items() if mark.get_markerfacecolor() == "white"]
    assert hollow == [26, 99]  # of one replicate
    chance = next(line for line in still.lines if line.get_label() == "chance")
    assert list(chance.get_ydata()) == [25.0] * 10
    small = [list(line.get_ydata()) for line in still.lines if line.get_marker() == "_"]
    assert [48, 52] in small and [54, 60] in small  # each of two replicates
    own = [line.get_xdata()[0] for line in still.lines if list(line.get_ydata()) in ([50], [60], [88], [90], [52])]
    assert len(set(own)) == len(own) == 5  # beside, not upon each other
    assert {line.get_marker() for line in channel.lines if len(line.get_xdata()) == 1} == {"*"}  # who has two there
    assert len(attack_report.curves(made_up[made_up["attack"] == "own"]).axes) == 1
    assert len(attack_report.curves(made_up[made_up["attack"] == "float"]).axes) == 1
    many = long_frame({("own", "spact"): [50.0, 51.0, 52.0, 53.0]})
    (bars,) = [c for c in attack_report.curves(many).axes[0].collections if len(c.get_paths()[0].vertices) == 2]
    low, high = bars.get_paths()[0].vertices[:, 1]
    assert (low, high) == pytest.approx(tuple(attack_readings.table(many).iloc[0][["low", "high"]]))


def test_the_figure_draws_an_attacker_of_ones_own(made_up: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(figures.MARKERS, "supervised", figures.SHAPES[-1])  # of which there is no letter
    monkeypatch.setitem(attacks.ATTACKS, "bad_video", Attack("larger, on H.264", network="larger", channel="h264"))
    mine = long_frame({("bad_video", "spact"): [33.0, 35.0]})
    for found, names in ((mine, ["bad_video"]), (pd.concat([made_up, mine]), ["long", "bad_video"])):
        panel, *_ = attack_report.curves(found).axes
        ticks = [tick.get_text().split("\n")[0] for tick in panel.get_xticklabels()]
        assert ticks[-len(names) :] == names
        assert 34 in [line.get_ydata()[0] for line in panel.lines if line.get_marker() == "*" and len(line.get_ydata())]
