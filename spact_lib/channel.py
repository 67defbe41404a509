"""What a release passes on its way to whoever looks at it, beyond 8 bits: H.264."""

from collections.abc import Iterable, Iterator
from itertools import chain

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from spact_lib.video import SCALING

KEYFRAME_EVERY = 250  # frames, x264's own default; a still is one keyframe


def through_h264(frames: Iterable[np.ndarray], crf: int) -> Iterator[np.ndarray]:
    """Frames as they come out of an H.264 video (yuv420p, preset medium) that they went into, in memory.

    Args:
        frames: at least one, uint8 RGB (h, w, 3), of one video, in order. Odd sides are repeated by one pixel for the
            encoder, which 4:2:0 asks of every player's H.264, and cut off again.
        crf: constant rate factor of x264, 0 (best) to 51.

    Yields:
        As many frames, of the same shape; only those are held that the encoder looks ahead.
    """
    frames = iter(frames)
    first = next(frames)
    h, w = first.shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = w + w % 2, h + h % 2, "yuv420p"
    encoder.framerate, encoder.gop_size = 25, KEYFRAME_EVERY
    # One thread, and as in ``video.write_video``: else some runs write other bytes.
    encoder.thread_count, encoder.options = 1, {"crf": str(crf), "x264-params": "mbtree=0"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    to_yuv, to_rgb = VideoReformatter(), VideoReformatter()
    taken = given = 0

    def packets() -> Iterator[av.Packet | None]:
        nonlocal taken
        for array in chain([first], frames):
            even = np.pad(array, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame = to_yuv.reformat(frame, format="yuv420p", interpolation=SCALING, threads=1)
            frame.pts, taken = taken, taken + 1
            yield from encoder.encode(frame)
        yield from encoder.encode(None)
        yield None

    for packet in packets():
        for frame in decoder.decode(packet):
            given += 1
            yield to_rgb.reformat(frame, format="rgb24", interpolation=SCALING, threads=1).to_ndarray()[:h, :w]
    assert taken == given, f"{taken} frames in, {given} out"
