"""Memory does not grow with a manifest's rows or a video's length; each measured in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from spact_lib.video import write_video

ROWS = 250_000
# Peaks of a process that reads a manifest and trains on it from its files, as the paper profile does.
TRAIN = """
import json, re, sys
from pathlib import Path
import numpy as np, torch
from spact_lib.losses import classification_loss
from spact_lib.config import View
from spact_lib.data import ClipDataset, VideoFrames, rows_of, to_float, training_batches
from spact_lib.manifest import read_manifest
from spact_lib.training import Run
from spact_lib.networks.action import build_action_network

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

def train(table, folder, steps):
    manifest = read_manifest(table)
    view = View(stored_side=64, size=56, n_frames=8, stride=2, crop=(0.6, 1.0), test_crop=0.8, flip=0.5, test_clips=1)
    source = VideoFrames(manifest, view.stored_side)
    dataset = ClipDataset(source, rows_of(manifest, "train"), manifest.sparse_labels("traits"), view)
    network = build_action_network("r3d18", manifest.task("traits").n_classes)
    optimizer = torch.optim.Adam(network.parameters())
    run = Run(folder, {"network": network}, {"network": optimizer})
    batches = iter(training_batches(dataset, 4, 0, steps))
    for step in run.steps(steps):
        batch = to_float(next(batches), torch.device("cpu"))
        loss = classification_loss(network(batch["clip"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step, loss=loss.item())

train(Path(sys.argv[1]), Path(sys.argv[2]), 12)
print(json.dumps(peak()))
"""
DECODE = """
import json, re, sys
from pathlib import Path
import numpy as np
from spact_lib.data import VideoFrames  # and torch with it: the process of a training
from spact_lib.video import iter_frames, probe, read_frames
path = Path(sys.argv[1])
n = probe(path).frames
read_frames(path, np.linspace(0, n - 1, 32).astype(int), 112)
assert sum(1 for _ in iter_frames(path, 112)) == n
print(json.dumps(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000))
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory as Linux does")


def peak(code: str, *arguments: object) -> float:
    """MB that a process held at most."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def test_training_on_250_000_rows_takes_no_more_memory_than_on_250(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(250):
        frames = rng.integers(0, 256, (20, 8, 10, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        write_video(tmp_path / f"{n}.avi", frames, 25, "mpeg4")
    traits = [f"trait_{k:04}" for k in range(1900)]  # as many as P-HVU has objects and scenes
    peaks = {}
    for rows in (250, ROWS):
        folder = tmp_path / f"{rows}"
        folder.mkdir()
        with open(folder / "t.csv", "w") as file:
            file.write("path,split,start,end,traits:multi\n")
            for n in range(rows):
                link = f"{n // 1000:04}/clip_{n:06}.avi"
                (folder / link).parent.mkdir(exist_ok=True)
                os.link(tmp_path / f"{n % 250}.avi", folder / link)
                file.write(f"{link},train,0,20,{'|'.join(traits[8 * n % 1900 :][:8])}\n")
        peaks[rows] = peak(TRAIN, folder / "t.csv", tmp_path / f"run{rows}")
    print(peaks)
    assert peaks[ROWS] < 1.1 * peaks[250]


def repeated(source: Path, target: Path, times: int) -> None:
    """``source`` so many times after each other, its packets as they are."""
    with av.open(str(source)) as given:
        stream = given.streams.video[0]
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in given.demux(stream) if p.dts is not None]
        step = packets[1][2] - packets[0][2]
        with av.open(str(target), "w") as file:
            out = file.add_stream_from_template(stream)
            for turn in range(times):
                for content, pts, dts, is_keyframe in packets:
                    packet = av.Packet(content)
                    packet.stream, packet.time_base = out, stream.time_base
                    packet.pts, packet.dts = (at + turn * step * len(packets) for at in (pts, dts))
                    packet.is_keyframe = is_keyframe
                    file.mux(packet)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_two_hours_of_video_take_no_more_memory_than_ten_seconds(tmp_path: Path, suffix: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    frames = [np.roll(picture, n, axis=1) for n in range(250)]
    short = write_video(tmp_path / f"short{suffix}", frames, 25, "mpeg4", quality=31)
    long = tmp_path / f"long{suffix}"
    repeated(short, long, 720)
    peaks = {path.stem: peak(DECODE, path) for path in (short, long)}
    print(suffix, peaks, f"{long.stat().st_size / 1e6:.0f} MB")
    assert peaks["long"] < 1.1 * peaks["short"]
    # MB: as FFmpeg opens an MP4 it makes a table of its 180,000 packets, 13 MB, and opening it again takes some more.
    assert peaks["long"] - peaks["short"] < 24
