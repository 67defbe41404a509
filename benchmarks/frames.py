"""Random 16-frame training clips out of 10-second videos: loaders that read every frame, the fastest decoders, ours.

Every variant opens the file and delivers what training asks for: 16 RGB frames, every second one from a random start,
with a short side of 128 pixels. Ours comes three times: on a file's first visit, which finds its frames and keyframes;
later, when that is remembered; and from the decode cache. "Clip and pair" is what the game reads of a video: two frames
from anywhere in it, too; each time on a first visit, as in a first epoch or with more videos than are remembered.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from scipy.ndimage import gaussian_filter

from benchmarks.harness import Row, interleaved, rows
from spact_lib import video
from spact_lib.config import PAPER
from spact_lib.data import clip_indices, latest_start
from spact_lib.decode_cache import build_cache
from spact_lib.filework import cores
from spact_lib.video import Converter, read_frames, write_video

VIEW = PAPER.action_view
WIDTH, HEIGHT, RATE, SECONDS = 320, 240, 25, 10
VIDEOS, CLIPS = 5, 10  # clips in a round, of the videos in turn
# What the encoders do unasked: MPEG-4 a keyframe in 12 frames, x264 one in 250 where no scene changes.
CASES = {
    "MPEG-4, a keyframe in 12": ("mpeg4", ".avi", 5, 12),
    "H.264, a keyframe in 250": ("libx264", ".mp4", 23, 250),
}
Clip = Callable[[Path, np.ndarray, int], np.ndarray]  # file, frame numbers, threads -> uint8 RGB (16, h, w, 3)


def scene(seed: int, frames: int = RATE * SECONDS) -> Iterator[np.ndarray]:
    """A camera that sways over a picture, a patterned thing that crosses it, and a little noise of the sensor."""
    rng = np.random.default_rng(seed)
    picture = np.stack([gaussian_filter(rng.normal(size=(HEIGHT + 60, WIDTH + 60)), 4) for _ in range(3)], -1)
    picture = (220 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)
    thing = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    for t in range(frames):
        dy, dx = int(30 + 29 * np.sin(seed + t / 25)), int(30 + 29 * np.cos(t / 31))
        y, x = int(90 + 80 * np.sin(t / 9)), int(140 + 120 * np.cos(seed + t / 13))
        frame = picture[dy : dy + HEIGHT, dx : dx + WIDTH].astype(np.int16)
        frame[y : y + 60, x : x + 40] = thing
        noise = rng.integers(-3, 4, (HEIGHT, WIDTH, 1))
        yield (frame + noise).clip(0, 255).astype(np.uint8)


def small(frame: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> short side of ``VIEW.stored_side``, as a loader with OpenCV does it."""
    import cv2

    scale = VIEW.stored_side / min(frame.shape[:2])
    return cv2.resize(frame, (round(frame.shape[1] * scale), round(frame.shape[0] * scale)))


def every_frame_opencv(path: Path, indices: np.ndarray, threads: int) -> np.ndarray:
    """The official loader's way: read the file from its start to its end, keep what is wanted."""
    import cv2

    wanted, kept, number = set(indices.tolist()), {}, 0
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
    while True:
        good, frame = capture.read()
        if not good:
            break
        if number in wanted:
            kept[number] = small(frame)[..., ::-1]
        number += 1
    capture.release()
    return np.stack([kept[int(i)] for i in indices])


def every_frame_pyav(path: Path, indices: np.ndarray, threads: int) -> np.ndarray:
    """The same with PyAV and one scaler for all frames, in FFmpeg's fastest settings."""
    wanted, kept = set(indices.tolist()), {}
    full, shrink = VideoReformatter(), Converter(WIDTH, HEIGHT, VIEW.stored_side)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count, stream.thread_type = threads, "AUTO"
        for number, frame in enumerate(container.decode(stream)):
            full.reformat(frame, format="rgb24", threads=1).to_ndarray()
            if number in wanted:
                kept[number] = shrink(frame)
    return np.stack([kept[int(i)] for i in indices])


def with_opencv(path: Path, indices: np.ndarray, threads: int) -> np.ndarray:
    """OpenCV with its own seeking."""
    import cv2

    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads]), []
    capture.set(cv2.CAP_PROP_POS_FRAMES, int(indices[0]))
    for number in range(int(indices[0]), int(indices[-1]) + 1):
        capture.grab()
        if number in indices:
            frames.append(small(capture.retrieve()[1])[..., ::-1])
    capture.release()
    return np.stack(frames)


def with_decord(path: Path, indices: np.ndarray, threads: int) -> np.ndarray:
    import decord

    side = {"width": round(WIDTH * VIEW.stored_side / HEIGHT), "height": VIEW.stored_side}
    return decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads, **side).get_batch(indices).asnumpy()


def with_torchcodec(path: Path, indices: np.ndarray, threads: int, seek_mode: str = "exact") -> np.ndarray:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    resize = Resize((VIEW.stored_side, round(WIDTH * VIEW.stored_side / HEIGHT)))
    decoder = VideoDecoder(
        str(path), dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode=seek_mode, transforms=[resize]
    )
    return decoder.get_frames_at(indices.tolist()).data.numpy()


def torchcodec_approximate(path: Path, indices: np.ndarray, threads: int) -> np.ndarray:
    """Without looking for all frames first: it trusts the header."""
    return with_torchcodec(path, indices, threads, "approximate")


def ours(path: Path, indices: np.ndarray, threads: int) -> np.ndarray:
    return read_frames(path, indices, VIEW.stored_side, threads)


def ours_first_visit(path: Path, indices: np.ndarray, threads: int) -> np.ndarray:
    with video.indices_forgotten():
        return read_frames(path, indices, VIEW.stored_side, threads)


CACHED, CACHED_FIRST = "ours, decode cache", "ours, decode cache, first visit"
FIRST = "ours, first visit"
PEERS = ("decord", "torchcodec, approximate")  # that give frames in any order
PAIR = "clip and pair, 1 thread"  # the case of which ``scaling`` reads
# Variant -> the module it needs, what it does. The first one whose module is there is the reference.
LOADERS: dict[str, tuple[str, Clip]] = {
    "every frame, OpenCV": ("cv2", every_frame_opencv),
    "every frame, PyAV": ("av", every_frame_pyav),
    "OpenCV": ("cv2", with_opencv),
    "decord": ("decord", with_decord),
    "torchcodec": ("torchcodec", with_torchcodec),
    "torchcodec, approximate": ("torchcodec", torchcodec_approximate),
    FIRST: ("av", ours_first_visit),
    "ours": ("av", ours),
}


def installed() -> dict[str, Clip]:
    """The loaders that can be had here; a sentence for each that cannot."""
    found, tried = {}, {}
    for name, (module, loader) in LOADERS.items():
        if module not in tried:
            tried[module] = _why_not(module)
        if tried[module]:
            print(f"bench: without {name}: {tried[module]}; pip install -e '.[bench]'")
        else:
            found[name] = loader
    return found


def _why_not(module: str) -> str:
    if find_spec(module) is None:
        return f"{module} is not installed"
    try:
        __import__(module)
    except Exception as error:  # torchcodec without FFmpeg's libraries raises whatever it likes
        return f"{module} cannot be loaded ({str(error).strip().splitlines()[0]})"
    return ""


def write_videos(folder: Path, codec: str, suffix: str, quality: int, keyframe_every: int) -> list[Path]:
    """The videos of a case, and a decode cache of them in ``folder/cache``."""
    paths = [folder / f"{number}{suffix}" for number in range(VIDEOS)]
    for number, path in enumerate(paths):
        write_video(path, scene(number), RATE, codec, quality=quality, keyframe_every=keyframe_every)
    table = "path,split,action:single\n" + "".join(f"{path.name},train,any\n" for path in paths)
    (folder / "videos.csv").write_text(table)
    build_cache(folder / "videos.csv", folder / "cache", short_side=VIEW.stored_side)
    return paths


def read(loader: Clip, clips: list[tuple[Path, np.ndarray]], threads: int) -> None:
    """One round of a variant."""
    for path, indices in clips:
        loader(path, indices, threads)


def measured(case: str, variants: dict[str, tuple[Clip, list]], threads: int, kb: dict[str, int]) -> list[Row]:
    """The rows of a case: variant -> loader and its clips; the first one is the reference."""
    calls = {name: partial(read, loader, clips, threads) for name, (loader, clips) in variants.items()}
    seconds = interleaved(calls, rounds=9)
    per_clip = {name: round(1000 * float(np.median(each)) / CLIPS, 2) for name, each in seconds.items()}
    size = {name: kb["cached" if name.startswith(CACHED) else "file"] for name in seconds}
    return rows(case, seconds, next(iter(variants)), ms_per_clip=per_clip, kB_per_video=size)


def run() -> list[Row]:
    """The records: milliseconds of a clip, with one decoder thread and with two; and of a clip and a pair."""
    made, loaders = [], installed()
    reference = next(iter(loaders))
    for case, settings in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = write_videos(Path(folder), *settings)
            copies = {path: Path(folder) / "cache" / "files" / f"{path.name}.mp4" for path in paths}
            rng = np.random.default_rng(0)
            starts = rng.integers(latest_start(RATE * SECONDS, VIEW) + 1, size=CLIPS)
            clips = [(paths[k % VIDEOS], clip_indices(RATE * SECONDS, VIEW, int(at))) for k, at in enumerate(starts)]
            sides = {"file": paths, "cached": copies.values()}
            kb = {side: round(sum(p.stat().st_size for p in of) / 1e3 / VIDEOS) for side, of in sides.items()}
            for threads in (1, 2)[: cores()]:
                variants = {name: (loader, clips) for name, loader in loaders.items()}
                variants[CACHED] = ours, [(copies[path], at) for path, at in clips]
                made += measured(f"{case}, {threads} thread{'s' * (threads > 1)}", variants, threads, kb)
            pairs = [(path, np.append(at, rng.integers(RATE * SECONDS, size=2))) for path, at in clips]
            variants = {name: (loader, pairs) for name, loader in loaders.items() if name in (reference, *PEERS, FIRST)}
            variants[CACHED_FIRST] = ours_first_visit, [(copies[path], at) for path, at in pairs]
            made += measured(f"{case}, {PAIR}", variants, 1, kb)
    return made
