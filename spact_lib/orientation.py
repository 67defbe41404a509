"""How the frames of a file are to be turned and mirrored, as it asks."""

from pathlib import Path

import av
import numpy as np
from PIL import ExifTags, Image

MIRROR_IMAGES = (2, 4, 5, 7)  # of EXIF's orientations


def quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns counterclockwise that put a frame upright; a ``mirrored`` one is turned upside down before."""
    turned = frame.rotation  # of a matrix that is no rotation, PyAV gives the smallest integer
    return round(turned / 90) % 4 if abs(turned) <= 180 else 0


def mirrored(frame: av.VideoFrame) -> bool:
    """Whether a video asks for a mirror image, as some front cameras do; PyAV tells the rotation alone."""
    try:
        stored = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV shows none where it does not know one of them: ``mirrored_picture``
        return False
    if stored is None:
        return False
    # Row vectors: the axis to the right goes to (a, b), that downwards to (c, d).
    (a, b, _), (c, d, _), _ = np.frombuffer(stored, np.int32).reshape(3, 3).tolist()
    return a * d < b * c


def mirrored_picture(path: str | Path, container: str) -> bool:
    """Whether the EXIF of a picture asks for a mirror image; ``container`` is FFmpeg's name of the format."""
    if not (container.endswith("_pipe") or container == "image2"):
        return False
    try:
        with Image.open(path) as picture:
            return picture.getexif().get(ExifTags.Base.Orientation) in MIRROR_IMAGES
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # a picture that Pillow does not know
        return False
