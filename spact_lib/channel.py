"""What a release passes on its way to whoever looks at it, beyond 8 bits: H.264."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from spact_lib.video import SCALING

KEYFRAME_EVERY = 250  # frames, x264's own default; a still is one keyframe


def through_h264(frames: np.ndarray, crf: int) -> np.ndarray:
    """Frames as they come out of an H.264 video (yuv420p, preset medium) that they went into, in memory.

    Args:
        frames: uint8 RGB (n, h, w, 3), n > 0, of one video, in order. Odd sides are repeated by one pixel for the
            encoder, which 4:2:0 asks of every player's H.264, and cut off again.
        crf: constant rate factor of x264, 0 (best) to 51.

    Returns:
        uint8 RGB, same shape.
    """
    n, h, w = frames.shape[:3]
    even = np.pad(frames, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = even.shape[2], even.shape[1], "yuv420p"
    encoder.framerate, encoder.gop_size = 25, KEYFRAME_EVERY
    # One thread, and as in ``video.write_video``: else some runs write other bytes.
    encoder.thread_count, encoder.options = 1, {"crf": str(crf), "x264-params": "mbtree=0"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    to_yuv, to_rgb = VideoReformatter(), VideoReformatter()
    packets = []
    for number, array in enumerate(even):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        frame = to_yuv.reformat(frame, format="yuv420p", interpolation=SCALING, threads=1)
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    out = [to_rgb.reformat(frame, format="rgb24", interpolation=SCALING, threads=1).to_ndarray() for frame in decoded]
    assert len(out) == n, f"{n} frames in, {len(out)} out"
    return np.stack(out)[:, :h, :w]
