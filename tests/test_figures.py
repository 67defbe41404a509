"""Figures: that they show what they are given; what they look like was looked at."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from spact_lib import figures
from spact_lib.errors import UserError
from spact_lib.methods import METHODS, LearnedMethod
from spact_lib.tables import LABELS, label


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def looks() -> dict[str, tuple]:
    return {method: (figures.colour(method), figures.marker(method), label(method)) for method in METHODS}


def test_every_method_has_its_own_look_and_label(monkeypatch):
    assert {*LABELS, *figures.COLOURS, *figures.MARKERS} <= set(METHODS)
    before = looks()
    for k in range(4):
        monkeypatch.setitem(METHODS, f"of your own {k}", LearnedMethod("nt_xent", omega="spact"))
    after = looks()
    assert before.items() <= after.items() and len(after) == len(before) + 4
    assert len({look[:2] for look in after.values()}) == len({look[2] for look in after.values()}) == len(after)
    (ax,) = plt.figure().subplots(1, 1, squeeze=False).flat
    for method in METHODS:
        ax.plot(0, 0, marker=figures.marker(method))


def test_drawing_gives_back_the_text_size_and_no_other_setting():
    """A notebook's backend is loaded by its first figure and makes it interactive: else it shows no second one."""
    before = plt.rcParams["font.size"]

    @figures.READABLE
    def first_figure() -> float:
        plt.rcParams["interactive"] = True
        return plt.rcParams["font.size"]

    with plt.rc_context({"interactive": False}):
        assert first_figure() > before
        assert plt.rcParams["interactive"] and plt.rcParams["font.size"] == before


def test_frame_grid_shows_each_frame_where_it_belongs():
    raw = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30)])
    small = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (110, 120, 130)])
    fig, ax = figures.frame_grid({"raw": raw, "downsample_4x": small}, captions=["a", "b", "c"], side=16)
    canvas = ax.images[0].get_array()
    assert [canvas[8, x, 0] for x in (8, 26, 44)] == [10, 20, 30]
    assert [canvas[26, x, 0] for x in (8, 26, 44)] == [110, 120, 130]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Raw data", "Downsample-4x"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]


def test_frame_grid_keeps_the_aspect_and_refuses_unequal_rows():
    wide = np.zeros((2, 10, 20, 3), np.uint8)
    _, ax = figures.frame_grid({"raw": wide}, side=32)
    assert ax.images[0].get_array().shape == (32, 2 * 64 + 2, 3)
    with pytest.raises(UserError, match=r"same number of frames, got \[2, 1\]"):
        figures.frame_grid({"raw": wide, "spact": wide[:1]})
    with pytest.raises(UserError, match="same number of frames"):
        figures.frame_grid({})


def test_frame_grid_stretches_no_row():
    upright, across = np.zeros((1, 20, 10, 3), np.uint8), np.zeros((1, 10, 20, 3), np.uint8)
    _, ax = figures.frame_grid({"a": across, "b": upright}, side=32)
    canvas = ax.images[0].get_array()
    assert (canvas[:32, :64] == 0).all() and (canvas[34:, 24:40] == 0).all()
    assert (canvas[34:, :24] == 255).all() and (canvas[34:, 40:] == 255).all()


def test_enlarge_repeats_pixels_and_adds_none():
    frames = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1).repeat(3, axis=3)
    large = figures.enlarge(frames, 5, 4)
    assert large.shape == (1, 5, 4, 3) and set(np.unique(large)) == {0, 1, 2, 3}
    assert large[0, 0, 0, 0] == 0 and large[0, -1, -1, 0] == 3


def test_smoothed_is_the_running_mean():
    values = np.arange(10.0)
    assert figures.smoothed(values, 3).tolist() == [np.mean(values[max(0, k - 2) : k + 1]) for k in range(10)]


def test_training_curves_draw_the_uninformative_value():
    names = ("L_T_step1", "L_B_step1", "spread", "L_T", "L_B")
    rows = [{"step": step} | {name: step + k for k, name in enumerate(names)} for step in range(4)]
    fig, (left, middle, right) = figures.training_curves(rows, uninformative=3.8)
    assert [text.get_text() for text in fig.legends[0].get_texts()][2] == "uninformative"
    assert any(np.allclose(line.get_ydata(), 3.8) for line in middle.lines)
    assert left.lines[2].get_xdata().tolist() == [1, 2, 3, 4] and left.lines[2].get_ydata().tolist() == [3, 4, 5, 6]
    assert right.get_ylim()[0] == 0
    with pytest.raises(UserError, match="nothing is logged under 'L_T_step1'; there are: L1, step"):
        figures.training_curves([{"step": 0, "L1": 1.0}], uninformative=None)


def test_other_figures_are_drawn_and_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    frames = [np.zeros((6, 6, 3), np.uint8)] * 7
    figures.contact_sheet(frames, ["one\ntwo"] * 6 + [r"a$\foo$"], title=r"$\seven$")
    rows = [{"step": step, "L1": 0.1} for step in range(3)]
    _, axes = figures.initialisation_curves({"f_A": (rows, "L1", 0.5), "again": (rows, "L1", None)})
    assert axes[0].get_ylim()[1] > 0.5
    bars = {"raw": [50.0, np.nan], "spact": [40.0, 30.0]}
    fig, ax = figures.class_bars(bars, ["a", "b"], reference=[10.0, 20.0], text="AP %")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["chance", "Raw data", "SPAct"]
    figures.save(fig, "smoke", "bars")
    path = figures.place("smoke", "bars")
    assert path == tmp_path / "figures" / "smoke" / "bars.png" and Image.open(path).width > 300
    svg = path.with_suffix(".svg").read_bytes()
    assert b"<svg" in svg[:500]
    figures.save(figures.class_bars(bars, ["a", "b"], reference=[10.0, 20.0], text="AP %")[0], "smoke", "bars")
    assert path.with_suffix(".svg").read_bytes() == svg  # the same figure, the same bytes


def described(name: str, n_classes: int) -> dict:
    """A report as ``dataset_report.write_report`` returns it, as far as figures look at it."""
    counts = {f"class {k}": 60 // (k + 1) for k in range(n_classes)}
    splits = {split: {"items": 60, "positives": counts} for split in ("train", "test")}
    together = {"classes": ["a", "b"], "rows": 100, "counts": [[40, 10], [10, 50]]}
    task = {"kind": "multi", "n_classes": n_classes, "splits": splits, "together": together}
    spread = {str(q): q + 5.0 for q in (0, 5, 25, 50, 75, 95, 100)}
    videos = {"files": 3, "frames": spread, "seconds": spread}
    return {"dataset": name, "tasks": {"few": task, "many": task}, "media": {"videos": videos}}


def test_label_frequency_by_name_or_by_rank():
    report = described("one", 3)
    report["tasks"]["many"] = described("one", 40)["tasks"]["many"]
    report["dataset"] = r"$\nothing$"  # a name as any other
    fig, axes = figures.label_frequency(report)
    fig.canvas.draw()
    few, many = axes.flat
    assert [text.get_text() for text in few.get_yticklabels()] == ["class 0", "class 1", "class 2"]
    assert few.lines[0].get_xdata().tolist() == [100, 50, pytest.approx(100 / 3)]
    assert many.get_yscale() == "log" and len(many.lines[1].get_ydata()) == 40


def test_co_occurrence_is_a_share_of_the_row_above_the_share_of_all():
    fig, ax = figures.co_occurrence(described("one", 3)["tasks"]["few"], r"$\one$")
    fig.canvas.draw()
    shown = ax.collections[0].get_array().reshape(3, 2)
    assert shown[0].tolist() == [40, 50] and shown[1, 1] == 25 and shown[2, 0] == 20
    assert shown.mask[1, 0] and shown.mask[2, 1]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["all rows", "a", "b"]


def test_clip_lengths_needs_videos():
    fig, axes = figures.clip_lengths({"one": described("one", 3), "stills": {"media": {"videos": {"files": 0}}}})
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["one"]
    with pytest.raises(UserError, match="no video file was found for stills"):
        figures.clip_lengths({"stills": {"media": {}}})
