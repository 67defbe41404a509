"""Figures of results: that they show what the tables say; what they look like was looked at."""

import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spact_lib import diagrams, figures, notebook_figures, result_figures, tables, verdicts
from spact_lib.claims import Scores
from spact_lib.config import profile
from spact_lib.errors import UserError
from spact_lib.methods import paper_rows
from spact_lib.protocols import Role, known, protocol
from spact_lib.replicates import wanted


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def table() -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [["action top-1", "privacy cMAP"], ["raw", "identity", "spact"]], names=["metric", "method"]
    )
    here = [90.0, 89.0, 88.0, 80.0, 85.0, 50.0]
    return pd.DataFrame({"here": here, "chance": [10.0] * 3 + [30.0] * 3, "boxes": ""}, index=index)


def points(ax: plt.Axes) -> dict[str, list[float]]:
    """label -> where its single marker is; the caps of bars have no label."""
    named = [line for line in ax.lines if not line.get_label().startswith("_")]
    return {line.get_label(): line.get_xydata()[0].tolist() for line in named if len(line.get_xydata()) == 1}


def test_the_front_has_what_nothing_beats_on_both_axes():
    given = {"a": (10, 50), "b": (20, 70), "c": (20, 60), "worse": (25, 65), "d": (90, 90)}
    assert result_figures.pareto_front(given) == ["a", "c", "b", "d"]  # c is as private as b: not beaten on both
    assert result_figures.pareto_front({"only": (1, 1)}) == ["only"]


@pytest.mark.parametrize("replicated", [False, True])
def test_trade_off_plots_the_table_and_the_papers_numbers(table, replicated, monkeypatch):
    monkeypatch.setitem(figures.MARKERS, "identity", figures.SHAPES[-1])  # of which there is no letter
    if replicated:
        table["low"], table["high"] = table["here"] - 1, table["here"] + 60
    curve = pd.DataFrame({"action": [88.0, 89.5], "privacy": [50.0, 70.0]}, index=pd.Index([0.5, 0.25], name="omega"))
    fig, (here, paper) = result_figures.trade_off(
        table, curves={"spact": curve}, paper=tables.of_paper("table1", protocol("ucf101_vispr1"))
    )
    assert points(here) == {"Raw data": [80.0, 90.0], "Identity (Eq. 4 only)": [85.0, 89.0], "SPAct": [50.0, 88.0]}
    theirs = points(paper)  # all rows of the paper's table, which has none for identity
    assert set(theirs) == {tables.label(method) for method in paper_rows("table1")} and len(theirs) == 9
    assert theirs["SPAct"] == [57.43, 62.03] and theirs["Obf-Blackening"] == [56.39, 53.13]
    assert {*points(here), *theirs} <= {text.get_text() for text in fig.legends[0].get_texts()}
    lines = {line.get_label(): line for line in here.lines}
    assert lines["Pareto front"].get_xydata().tolist() == [[50.0, 88.0], [80.0, 90.0]]
    assert lines["SPAct by $\\omega$\n(one replicate)"].get_xydata().tolist() == [[50.0, 88.0], [70.0, 89.5]]
    assert [text.get_text() for text in here.texts] == ["0.5", "0.25"]
    assert len(here.collections) == 6 * replicated  # two bars each
    assert here.get_xlim()[1] <= 102 and here.get_ylim()[1] <= 102
    nothing = tables.of_paper("table1", known(Role("mine", "action"), Role("mine", "person")))
    assert len(nothing) == 0 and result_figures.trade_off_points(nothing["paper"]) == {}
    one_axis = tables.of_paper("table2", protocol("ucf101_to_pa_hmdb51"))
    assert len(one_axis) and result_figures.trade_off_points(one_axis["paper"]) == {}
    for without in (None, nothing, one_axis):
        assert len(result_figures.trade_off(table, paper=without)[1]) == 1
    with pytest.raises(UserError, match="needs an action and a privacy metric, not action top-1 alone"):
        result_figures.trade_off(table.loc[["action top-1"]])


def test_whose_boxes_an_obfuscation_trusts_is_said_of_our_panel_alone(table):
    table = table.rename(index={"identity": "obf_blackening"}, level="method")
    table.loc[("privacy cMAP", "obf_blackening"), "boxes"] = "oracle"
    fig, (here, paper) = result_figures.trade_off(table, paper=tables.of_paper("table1", protocol("ucf101_vispr1")))
    assert here.get_title() == "here (obfuscation: oracle boxes)" and paper.get_title() == "the paper's numbers"
    assert "Obf-Blackening" in [text.get_text() for text in fig.legends[0].get_texts()]
    assert "oracle boxes" in result_figures.trade_off(table)[1][0].get_title()


@pytest.mark.parametrize(("cmap", "enlarged"), [(52.0, True), (70.0, False)])
def test_rows_that_lie_on_each_other_are_drawn_larger(table, cmap, enlarged):
    rows = [("action top-1", "moco"), ("privacy cMAP", "moco")]
    table.loc[rows[0], ["here", "chance", "boxes"]] = [88.5, 10.0, ""]
    table.loc[rows[1], ["here", "chance", "boxes"]] = [cmap, 30.0, ""]
    curve = pd.DataFrame({"action": [88.2, 60.0], "privacy": [51.0, 40.0]}, index=pd.Index([0.5, 1.0], name="omega"))
    _, (here,) = result_figures.trade_off(table, curves={"spact": curve})
    insets = here.child_axes
    assert len(insets) == enlarged
    named = [[text.get_text() for text in ax.texts] for ax in (here, *insets)]
    assert named == ([["1"], ["0.5"]] if enlarged else [["0.5", "1"]])  # each point once, where it can be read
    if enlarged:
        left, right = insets[0].get_xlim()
        shown = {name: at for name, at in points(insets[0]).items() if left < at[0] < right}
        assert shown == {"SPAct": [50.0, 88.0], "MoCo": [52.0, 88.5]}


def test_nothing_is_enlarged_over_what_is_drawn_already(table):
    rows = [("action top-1", "moco"), ("privacy cMAP", "moco")]
    table.loc[rows[0], ["here", "chance", "boxes"]] = [88.5, 10.0, ""]
    table.loc[rows[1], ["here", "chance", "boxes"]] = [52.0, 30.0, ""]
    table["low"], table["high"] = table["here"] - 1, table["here"] + 1
    _, (alone,) = result_figures.trade_off(table)
    table.loc[[("action top-1", "spact"), ("action top-1", "raw")], "low"] = 10.0  # bars from top to bottom: no room
    _, (full,) = result_figures.trade_off(table)
    assert (len(alone.child_axes), len(full.child_axes)) == (1, 0)


def test_game_curves_are_in_units_of_the_uninformative_value():
    rows = [{"step": step, "L_T": 2.0, "L_B": 3.0} for step in range(4)]
    _, (left, right) = result_figures.game_curves({"spact": (rows, 1.5), "supervised": (rows, None)})
    assert {line.get_label(): line.get_ydata()[0] for line in left.lines} == {"SPAct": 2.0, "Supervised [41]": 2.0}
    assert [line.get_ydata()[0] for line in right.lines] == [2.0, 1]  # SPAct's, and the reference


def test_games_of_one_colour_have_their_own_line_styles():
    rows = [{"step": step, "L_T": 2.0, "L_B": 3.0} for step in range(4)]
    methods = ("no_f_B", "frozen_f_B", "spact", "spatiotemporal_f_B")  # as Table 3 has them
    _, (left, _) = result_figures.game_curves({method: (rows, 1.5) for method in methods})
    assert len({(line.get_color(), line.get_linestyle()) for line in left.lines}) == len(methods)


def test_claims_are_drawn_on_the_side_where_they_hold():
    cells = {cell: 90.0 if cell[2] == "action" else 50.0 for cell in wanted(profile("mini"), [101, 1])}
    cells |= {("known", name, "privacy"): 50.0 - cmap for name, cmap in (("smaller_f_B", 0), ("larger_f_B", 8))}
    table = verdicts.verdicts([Scores(cells)] * 5)
    _, ax = result_figures.claim_intervals(table, verdicts.VERDICT_LOOKS)
    row = list(table.index).index(("K12", "slope of cMAP over smaller, own, larger f_B < 0"))
    (holds,) = (each for each in ax.containers if each.get_label() == "holds")
    drawn = {(x, y) for x, y in holds.lines[0].get_xydata()}
    assert (pytest.approx(4.0), row) in [(x, y) for x, y in drawn if y == row]
    assert len(ax.get_yticks()) == len(table)
    told = {text.get_text() for text in ax.texts}
    assert told == {f"{claim} {row['verdict']}" for (claim, _), row in table.iterrows()}
    taken = {*figures.COLOURS.values(), figures.OTHER_METHOD}  # a verdict is no method
    assert not taken & {colour for colour, _ in verdicts.VERDICT_LOOKS.values()}


def test_diagrams_say_who_learns_in_which_step():
    def texts(ax: plt.Axes) -> list[str]:
        return [text.get_text() for text in ax.texts if text.get_text()]

    first, second = (texts(ax) for ax in diagrams.minimax().axes)
    for panel, learns in ((first, ["$f_A$"]), (second, ["$f_T$", "$f_B$"])):
        states = {name: panel[panel.index(name) + 1] for name in ("$f_A$", "$f_T$", "$f_B$")}
        assert states == {name: "learns" if name in learns else "frozen" for name in states}
    (ax,) = diagrams.contrast().axes
    assert texts(ax).count("$f_B$") == 4 and {"$Z_i$", "$Z_i'$", "$Z_j$", "$Z_j'$"} <= set(texts(ax))


def test_a_shown_figure_is_saved_whole_and_shown_small(tmp_path, monkeypatch):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    shown = []
    monkeypatch.setattr(notebook_figures, "display", shown.append)
    # Pictures keep their colours, about: here each frame has one, of two hundred.
    frames = np.tile(np.random.default_rng(0).integers(0, 256, (200, 1, 1, 3), dtype=np.uint8), (1, 16, 16, 1))
    notebook_figures.show(
        figures.frame_grid({str(k): frames[k : k + 10] for k in range(0, 200, 10)})[0], "smoke", "strip"
    )
    seen = Image.open(io.BytesIO(shown[0].data)).convert("RGB")
    saved = Image.open(figures.place("smoke", "strip")).convert("RGB").resize(seen.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(seen, int) - np.asarray(saved, int))
    assert shown[0].format == "png" and np.median(difference) <= 1 and np.quantile(difference, 0.9) <= 8
    assert figures.place("smoke", "strip").with_suffix(".svg").exists()
    # A method keeps its colour.
    rows = [{"step": k, "L_T": 1.0, "L_B": k / 9} for k in range(9)]
    notebook_figures.show(result_figures.game_curves({"spact": (rows, 2.0)})[0], "smoke", "curves")
    seen = {colour for _, colour in Image.open(io.BytesIO(shown[1].data)).convert("RGB").getcolors(1 << 24)}
    assert shown[1].format == "png" and len(seen) <= 128
    assert {(255, 255, 255), tuple(bytes.fromhex(figures.colour("spact")[1:]))} <= seen
    assert plt.get_fignums() == []  # else the notebook would show it once more
