"""A user's video through ``spact anonymize``: frames per second, and how much of the time is the anonymizer's.

The reference passes every frame on as it is: what remains is decoding, colours and encoding. f_A has the widths and
frame sizes of the profiles; its weights are fresh, which changes nothing of its own time (the encoder's depends on
what it is given).
"""

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.frames import HEIGHT, RATE, WIDTH, scene
from benchmarks.harness import Row, interleaved, rows
from spact_lib.apps.anonymize import load_method
from spact_lib.apps.transcode import Result, transcode
from spact_lib.config import PAPER, Profile, profile
from spact_lib.device import pick_device
from spact_lib.experiments import anonymize_uint8
from spact_lib.networks.anonymizer import Anonymizer
from spact_lib.video import write_video

FRAMES = 100
SCALES = (1, 3)  # of the drawn scene's sides
Frames = Callable[[np.ndarray], np.ndarray]


def learned(settings: Profile) -> tuple[Frames, int]:
    """An f_A as a profile has it, and the short side of its frames."""
    f_A = Anonymizer(settings.width).to(pick_device()).eval()
    return partial(anonymize_uint8, f_A, precision=settings.precision), settings.action_view.stored_side


def run() -> list[Row]:
    """The records: seconds of a video, frames per second, percent of them in the anonymizer; at two sizes."""
    variants: dict[str, tuple[Frames, int | None]] = {
        "no anonymizer": (lambda frames: frames, None),
        "downsample_4x": (load_method("downsample_4x").apply, None),
        "f_A, mini": learned(profile("mini")),
        "f_A, paper": learned(PAPER),
    }
    made, threads = [], torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        for scale in SCALES:
            clip, out = Path(folder) / f"{scale}.mp4", Path(folder) / "out.mp4"
            frames = (frame.repeat(scale, 0).repeat(scale, 1) for frame in islice(scene(0), FRAMES))
            write_video(clip, frames, RATE, "libx264", quality=23, keyframe_every=250)
            results: dict[str, list[Result]] = {name: [] for name in variants}

            def release(name: str, clip: Path = clip, out: Path = out, results: dict = results) -> None:
                method, side = variants[name]
                results[name].append(transcode(clip, out, method, short_side=side, threads=threads))

            seconds = interleaved({name: partial(release, name) for name in variants}, rounds=3)
            speed = {name: round(FRAMES / statistics.median(each), 1) for name, each in seconds.items()}
            shares = {
                name: round(100 * statistics.median(each.method_seconds / each.seconds for each in found[1:]))
                for name, found in results.items()  # the first one is the warm-up
            }
            case = f"H.264, {WIDTH * scale} x {HEIGHT * scale}, {FRAMES} frames"
            further = {"frames_per_s": speed, "%_in_the_anonymizer": shares}
            made += rows(case, seconds, "no anonymizer", "s", **further)
    return made
