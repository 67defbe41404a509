"""Clips side by side in JupyterLab: play, scrub, heat maps over them. Headless: a strip of frames instead."""

import io
from collections.abc import Mapping
from types import MappingProxyType

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import display
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from spact_lib import figures
from spact_lib.errors import UserError, unknown_name
from spact_lib.tables import label

Clips = Mapping[str, np.ndarray]  # name (of a method, or any text) -> uint8 RGB (n, h, w, 3)
Heat = Mapping[str, np.ndarray]  # name of a clip -> (n, h, w) in [0, 1]; a clip without one is shown as it is
SLIDES = 4.0  # frames per second, at least
NO_HEAT: Heat = MappingProxyType({})


def show_clip(clips: Clips, *, fps: float = 10.0, heat: Heat = NO_HEAT, side: int = 192) -> None:
    """Display clips side by side: a player where somebody can press its buttons, else a strip of frames.

    papermill, nbval and nbconvert get the strip, so no state of a widget is ever stored.

    Args:
        clips: name -> uint8 RGB (n, h, w, 3), the same n; sizes may differ.
        fps: frames per second of the player.
        heat: name -> (n, h', w') in [0, 1], drawn over the clip of that name: ``attention.attention``, say.
        side: height in pixels that a frame is shown at.

    Raises:
        UserError: no clip, what is none, clips of different lengths, or heat maps that do not belong to them.
    """
    if has_frontend():
        display(player(clips, fps=fps, heat=heat, side=side))
        return
    fig = strip(clips, fps=fps, heat=heat)
    alt = f"moments of the same clip, row by row: {', '.join(map(label, clips))}" + "; then with heat maps" * bool(heat)
    display(fig, metadata={"image/png": {"alt": alt}})
    plt.close(fig)  # else it is shown once more at the end of the cell


def has_frontend() -> bool:
    """Whether the running cell was sent by somebody who can answer, as JupyterLab can and papermill, nbval cannot."""
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))  # of the request that is being executed


def player(clips: Clips, *, fps: float = 10.0, heat: Heat = NO_HEAT, side: int = 192) -> widgets.VBox:
    """The widget of ``show_clip``."""
    n = _length(clips, heat)
    pictures = {name: widgets.Image(format="png") for name in clips}
    # A few moments of a long video are a slide show, not one picture a minute.
    play = widgets.Play(max=n - 1, interval=max(1, round(1000 / max(fps, SLIDES))), repeat=True)
    at = widgets.IntSlider(max=n - 1, description="frame")
    opacity = widgets.FloatSlider(value=0.5, max=1, step=0.05, description="heat map")
    widgets.jslink((play, "value"), (at, "value"))

    def draw(_: object = None) -> None:
        for name, picture in pictures.items():
            frame = clips[name][at.value : at.value + 1]
            if name in heat:
                frame = overlaid(frame, heat[name][at.value : at.value + 1], opacity.value)
            picture.value = _png(figures.enlarge(frame, side, round(side * frame.shape[2] / frame.shape[1]))[0])

    at.observe(draw, "value")
    opacity.observe(draw, "value")
    draw()
    columns = [widgets.VBox([widgets.Label(label(name)), picture]) for name, picture in pictures.items()]
    controls = [play, at] + [opacity] * bool(heat)
    return widgets.VBox([widgets.HBox(columns), widgets.HBox(controls)])


def strip(clips: Clips, *, fps: float = 10.0, heat: Heat = NO_HEAT, moments: int = 6) -> Figure:
    """The figure of ``show_clip``: ``moments`` frames spread over each clip, then those with heat maps."""
    n = _length(clips, heat)
    at = np.unique(np.linspace(0, n - 1, min(n, moments)).round().astype(int))
    rows = {name: frames[at] for name, frames in clips.items()}
    rows |= {f"{label(name)}, heat map": overlaid(rows[name], maps[at], 0.6) for name, maps in heat.items()}
    seconds = [f"{s:.2g} s" if s < 10 else f"{s:.0f} s" for s in at / fps]
    title = "heat maps: bright yellow is most" * bool(heat)
    return figures.frame_grid(rows, captions=seconds, title=title, side=96)[0]


def overlaid(frames: np.ndarray, heat: np.ndarray, opacity: float) -> np.ndarray:
    """Frames with a heat map over them: the hotter, the less of the frame is left, down to 1 - ``opacity``.

    Shape: uint8 (n, h, w, 3), (n, h', w') in [0, 1] -> uint8 (n, h, w, 3).
    """
    colours = (colormaps["inferno"](heat)[..., :3] * 255).astype(np.uint8)  # (n, h', w') -> (n, h', w', 3)
    height, width = frames.shape[1:3]
    weight = opacity * figures.enlarge(heat[..., None], height, width)
    mixed = (1 - weight) * frames + weight * figures.enlarge(colours, height, width)
    return mixed.round().astype(np.uint8)


def _length(clips: Clips, heat: Heat) -> int:
    for name, frames in clips.items():
        array = isinstance(frames, np.ndarray)
        if not array or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            what = f"{frames.dtype} {frames.shape}" if array else f"a {type(frames).__name__}"
            raise UserError(
                f"clip {name!r} is {what}, no uint8 array (n, h, w, 3); read videos with spact_lib.video.read_frames"
            )
    lengths = {name: len(frames) for name, frames in clips.items()}
    n = min(lengths.values(), default=0)
    if n == 0 or len(set(lengths.values())) > 1:
        raise UserError(f"a viewer needs clips with the same number of frames, got {lengths}")
    for name, maps in heat.items():
        if name not in clips:
            raise unknown_name("clip with a heat map", name, clips)
        if maps.ndim != 3 or len(maps) != n or not 0 <= maps.min() <= maps.max() <= 1:
            raise UserError(f"a heat map for {n} frames has shape ({n}, h, w) and values in [0, 1], not {maps.shape}")
    return n


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()
