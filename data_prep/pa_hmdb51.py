"""PA-HMDB51: frame-wise attributes of 515 HMDB51 videos, ``PrivacyAttributes/<action>.json``.

A json file maps a video to, for each attribute, a list of [first frame, last frame, value or list of values]. An
attribute is present where a value is other than 0. The attributes change at different frames, and a few frames are
annotated for some of them only: a row here is a range [start, end) in which no annotation starts or ends and all
five attributes are annotated. All rows are test rows: f'_B learns on VISPR, f'_T on the other videos of HMDB51.
"""

from pathlib import Path

import pandas as pd

from data_prep.official import read_json
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task

ATTRIBUTES = ("skin_color", "face", "gender", "nudity", "relationship")


def prepare(root: Path, *, annotations: Path | None = None) -> Manifest:
    """Manifest with tasks ``pa_attributes`` (multi) and ``action`` (single); ``root`` holds the videos of HMDB51.

    The values themselves are kept in columns ``<attribute>_value`` (several: joined by "+"), because it is not known
    whether the paper counts nudity from value 1 or from value 2 on.
    """
    annotations = annotations or root / "PrivacyAttributes"
    files = sorted(annotations.glob("*.json"))
    if not files:
        raise UserError(f"there is no *.json in {annotations}; unpack the official files of PA-HMDB51 there")
    rows = []
    for path in files:
        for video, content in read_json(path).items():
            for start, end, values in _ranges(content, f"{path}, video {video!r}"):
                present = "|".join(a for a in ATTRIBUTES if any(values[a]))
                cells = ["+".join(map(str, values[a])) for a in ATTRIBUTES]
                rows.append((f"{path.stem}/{video}", "test", start, end, path.stem, present, *cells))
    columns = [
        "path",
        "split",
        "start",
        "end",
        "action",
        "pa_attributes",
        *(f"{a}_value" for a in ATTRIBUTES),
    ]
    tasks = {
        "action": Task("action", "single", tuple(path.stem for path in files)),
        "pa_attributes": Task("pa_attributes", "multi", ATTRIBUTES),
    }
    return Manifest("pa_hmdb51", root, tasks, pd.DataFrame(rows, columns=columns))


def _ranges(content: object, where: str) -> list[tuple[int, int, dict[str, list[int]]]]:
    """(start, end, values of each attribute) of every range between two boundaries that is fully annotated."""
    tracks = {}
    for attribute in ATTRIBUTES:
        tracks[attribute] = track = []
        segments = content.get(attribute) if isinstance(content, dict) else None
        for segment in segments if isinstance(segments, list) else [None]:
            values = segment[2:] if isinstance(segment, list) and len(segment) == 3 else [None]
            values = values[0] if isinstance(values[0], list) else values
            if not values or not all(type(v) is int and v >= 0 for v in [*values, *(segment or [])[:2]]):
                raise UserError(
                    f"{where}: {attribute} {str(segment)[:60]} is not [first, last, value]; replace the file"
                )
            if segment[1] < segment[0]:
                raise UserError(f"{where}: {attribute} {segment} ends before it starts; correct it")
            track.append((segment[0], segment[1] + 1, values))
    cuts = sorted({cut for track in tracks.values() for start, end, _ in track for cut in (start, end)})
    ranges = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        # Where two annotations overlap (one frame in the official files), the later one counts.
        found = {a: [v for s, e, v in track if s <= start < e][-1:] for a, track in tracks.items()}
        if all(found.values()):
            ranges.append((start, end, {a: v[0] for a, v in found.items()}))
    return ranges
