"""The viewer: a player for people, a strip for programs."""

import io
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from spact_lib.apps import viewer
from spact_lib.errors import UserError
from spact_lib.notebooks import blemishes

CLIPS = {
    "raw": np.arange(12 * 6 * 8 * 3, dtype=np.uint8).reshape(12, 6, 8, 3),
    "spact": np.zeros((12, 3, 4, 3), np.uint8),
}
CODE = """
import numpy as np
from spact_lib.apps.viewer import show_clip
clip = np.zeros((5, 8, 8, 3), np.uint8)
show_clip({"raw": clip, "spact": clip + 9}, heat={"spact": np.ones((5, 8, 8)) / 2})
"""


def shown(picture: widgets.Image) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(picture.value)))


def test_the_player_shows_the_frame_it_is_at() -> None:
    box = viewer.player(CLIPS, fps=5, side=12)
    columns, (play, at) = (row.children for row in box.children)
    pictures = [column.children[1] for column in columns]
    assert [column.children[0].value for column in columns] == ["Raw data", "SPAct"]
    assert (play.interval, play.max, at.max) == (200, 11, 11)
    at.value = 7
    assert np.array_equal(shown(pictures[0])[::2, ::2], CLIPS["raw"][7])
    assert shown(pictures[0]).shape == shown(pictures[1]).shape == (12, 16, 3)


def test_the_heat_map_follows_its_slider() -> None:
    heat = np.zeros((12, 3, 4))
    heat[:, 0] = 1
    box = viewer.player(CLIPS, heat={"raw": heat}, side=6)
    (column, bare), (_, _, opacity) = (row.children for row in box.children)
    opacity.value = 1
    top, bottom = np.split(shown(column.children[1]), [2])
    assert np.array_equal(bottom, CLIPS["raw"][0, 2:]) and len(np.unique(top.reshape(-1, 3), axis=0)) == 1
    assert not shown(bare.children[1]).any()  # a clip of zeros without a map of its own
    opacity.value = 0
    assert np.array_equal(shown(column.children[1]), CLIPS["raw"][0])


def test_the_strip_has_the_moments_in_seconds_and_heat_maps_below() -> None:
    fig = viewer.strip(CLIPS, fps=4, heat={"spact": np.ones((12, 2, 2))}, moments=3)
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0 s", "1.5 s", "2.8 s"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Raw data", "SPAct", "SPAct, heat map"]
    plt.close(fig)


def test_a_notebook_run_by_a_program_stores_a_strip_and_no_widget() -> None:
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = new_notebook(cells=[new_code_cell(CODE)], metadata={"kernelspec": kernel})
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.metadata["image/png"]["alt"].endswith("Raw data, SPAct; then with heat maps")
    assert not [found for found in blemishes(notebook) if "widget" in found]
    assert len(nbformat.writes(notebook)) < 60_000


def test_somebody_at_the_keyboard_gets_the_player(tmp_path: Path) -> None:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        displayed = []
        client.execute_interactive(CODE, allow_stdin=True, timeout=300, output_hook=displayed.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    data = [message["content"]["data"] for message in displayed if message["msg_type"] == "display_data"]
    assert len(data) == 1 and "application/vnd.jupyter.widget-view+json" in data[0]


@pytest.mark.parametrize(
    ("clips", "heat"),
    [
        ({}, {}),
        ({"a": np.zeros((0, 4, 4, 3), np.uint8)}, {}),
        ({"a": np.zeros((2, 4, 4, 3), np.uint8), "b": np.zeros((3, 4, 4, 3), np.uint8)}, {}),
        ({"a": np.zeros((2, 4, 4, 3), np.uint8)}, {"a": np.zeros((3, 4, 4))}),
        ({"a": np.zeros((2, 4, 4, 3), np.uint8)}, {"a": np.full((2, 4, 4), 255)}),
        ({"a": np.zeros((2, 4, 4, 3), np.uint8)}, {"b": np.zeros((2, 4, 4))}),
    ],
)
def test_clips_that_do_not_belong_together_are_refused(clips: dict, heat: dict) -> None:
    with pytest.raises(UserError, match="a viewer needs clips|a heat map for 2 frames|unknown clip with a heat map"):
        viewer.show_clip(clips, heat=heat)


@pytest.mark.parametrize(
    ("clip", "what"),
    [
        ("clips/a.avi", "a str"),
        (Path("a1.mp4"), "a PosixPath"),
        (np.zeros((2, 4, 4, 3)), r"float64 \(2, 4, 4, 3\)"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"uint8 \(2, 3, 4, 4\)"),
        (np.zeros((4, 4, 3), np.uint8), r"uint8 \(4, 4, 3\)"),
        (torch.zeros((2, 4, 4, 3), dtype=torch.uint8), "a Tensor"),
    ],
)
def test_what_is_no_clip_is_told_what_one_is(clip: object, what: str) -> None:
    message = rf"^clip 'spact' is {what}, no uint8 array \(n, h, w, 3\); read .* spact_lib.video.read_frames"
    with pytest.raises(UserError, match=message):
        viewer.show_clip({"raw": np.zeros((2, 4, 4, 3), np.uint8), "spact": clip})
