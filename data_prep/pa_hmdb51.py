"""PA-HMDB51: frame-wise attributes of 515 HMDB51 videos, ``PrivacyAttributes/<action>.json``.

A json file maps a video to, for each attribute, a list of [first frame, last frame, value or list of values]. The 515
videos have 52,413 annotated frames. The attributes change at different frames, and two frames are annotated for some of
them only: a row of the manifest is a range [start, end) in which no annotation starts or ends and all five attributes
are annotated, 52,411 frames in all. All rows are test rows. What a protocol needs, and which command writes it:

- ``pa_hmdb51`` (``spact prepare pa_hmdb51``), tasks ``action`` (single), ``pa_attributes``, ``pa_attributes_nudity2``
  (multi): the ranges. Every frame of a range has its labels: per frame, weigh a range with its length.
- ``pa_hmdb51_videos`` (the same command), the same tasks: a row per video.
- ``hmdb51_without_pa`` (``spact prepare hmdb51 --without-pa DIR``), task ``action``: what f'_T learns on.
- ``vispr_pa`` (``spact prepare vispr``), tasks ``pa_attributes`` and ``pa_attributes_nudity2``: what f'_B learns on.

The two attribute tasks are the two readings of nudity (``NUDITY_FROM``). Classes and their order are the same in all.

What the values mean, 0 being "not to be seen": skin color 1 white, 2 brown or yellow, 3 black; face 1 partial, 2
complete; gender 1 male, 2 female; nudity 1 partial, 2 semi; relationship 1. Several persons have several values.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from data_prep.archives import absent, annotation_folder
from data_prep.official import Json, film_of, hmdb51_form, is_name, malformed
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task

ATTRIBUTES = ("skin_color", "face", "gender", "nudity", "relationship")

# What VISPR's attributes become where a classifier learned on VISPR is tested here (Wu et al.).
VISPR_ATTRIBUTES = {
    "skin_color": ("a17_color",),
    "face": ("a9_face_complete", "a10_face_partial"),
    "gender": ("a4_gender",),
    "nudity": ("a12_semi_nudity",),
    "relationship": ("a64_rel_personal", "a65_rel_social"),
}

# It is not known how the paper maps nudity: the data's authors count every value but 0, while VISPR's attribute is semi
# nudity, value 2. So there are two tasks that differ in nothing else. Task -> the least value that counts as nudity.
NUDITY_FROM = {"pa_attributes": 1, "pa_attributes_nudity2": 2}
TASKS = {name: Task(name, "multi", ATTRIBUTES) for name in NUDITY_FROM}

_VALUES = [f"{attribute}_value" for attribute in ATTRIBUTES]
_GREATEST = {"skin_color": 3, "face": 2, "gender": 2, "nudity": 2, "relationship": 1}
_REMARKS = ("review", "note")  # what the annotators wrote beside the attributes
_LAST_FRAME = 1_000_000  # no clip of HMDB51 has more than about a thousand


def prepare(root: Path, *, annotations: Path | None = None) -> Manifest:
    """Manifest with tasks ``action`` (single), ``pa_attributes`` and ``pa_attributes_nudity2`` (multi).

    ``root`` holds the videos of HMDB51; ``annotations`` is the folder of the json files if they are not in ``root``.
    The values themselves are kept in columns ``<attribute>_value`` (several: joined by "+").
    """
    folder = annotations or json_folder(root)
    published = read_annotations(folder)
    rows = [
        (path, "test", start, end, part["action"].iloc[0], *values)
        for path, part in published.groupby("path", sort=False)
        for start, end, values in _common_ranges(part)
    ]
    if not rows:
        raise UserError(f"no frame in {folder} is annotated for all of {', '.join(ATTRIBUTES)}; replace the files")
    table = pd.DataFrame(rows, columns=["path", "split", "start", "end", "action", *_VALUES])
    tasks = {"action": Task("action", "single", tuple(published["action"].unique()))} | TASKS
    return Manifest("pa_hmdb51", root, tasks, _labelled(table), _count_frames(published))


def json_folder(root: Path) -> Path:
    """The folder of the json files: ``PrivacyAttributes`` in ``root``, ``root`` itself, or in a folder of it."""
    return annotation_folder(root, "PrivacyAttributes", "*.json", "pa-hmdb51", "privacyattributes")


def derived(manifest: Manifest) -> list[Manifest]:
    """The datasets that are written with this one: ``pa_hmdb51_videos``."""
    return [per_video(manifest)]


def _count_frames(annotations: pd.DataFrame) -> dict[str, object]:
    """Frames that are annotated at all, for each attribute, and that show it."""
    values = frame_values(annotations)
    annotated, shown = values != "", (values != "") & (values != "0")
    return {
        "annotated frames": len(values),
        "frames annotated for": {a: int(annotated[a].sum()) for a in ATTRIBUTES},
        "frames that show": {a: int(shown[a].sum()) for a in ATTRIBUTES}
        | {"nudity (value 2)": int((values["nudity"] == "2").sum())},
    }


def read_annotations(folder: Path) -> pd.DataFrame:
    """The ranges as they are published, a row for each range of each attribute of each video.

    Columns: path (``<action>/<video>``), action, attribute, start, end (frames [start, end)), value (a text; several
    values joined by "+"). Raises UserError naming file and line.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise absent(folder / "brush_hair.json")
    rows = []
    for file in files:
        if not is_name(file.stem):
            raise UserError(f"{str(file)!r} is not named as an action, in plain UTF-8; rename it")
        whole = Json(file)
        for video, content in whole.items():
            if not is_name(video):
                raise UserError(f"{whole.where(video)}: {video!r} is not the name of a video file; replace the file")
            if film_of(video, file.stem) is None:
                malformed(file, whole.line(video), video, hmdb51_form(file.stem))
            for name in content if isinstance(content, dict) else ():
                if name not in (*ATTRIBUTES, *_REMARKS):
                    what = f"{name!r} of {video!r} is no attribute (those are {', '.join(ATTRIBUTES)})"
                    raise UserError(f"{whole.where(video, name)}: {what}; correct it")
            for attribute in ATTRIBUTES:
                ranges = content.get(attribute) if isinstance(content, dict) else None
                if not isinstance(ranges, list) or not ranges:
                    place = (video, attribute) if isinstance(content, dict) and attribute in content else (video,)
                    what = f"{attribute} of {video!r} is not a list of [first, last, value]"
                    raise UserError(f"{whole.where(*place)}: {what}; replace the file")
                for n, given in enumerate(ranges):
                    if fault := _fault(given, attribute):
                        where = whole.where(video, attribute, n)
                        raise UserError(f"{where}: {attribute} of {video!r}, {str(given)[:60]}, {fault}")
                    first, last, values = given
                    values = values if isinstance(values, list) else [values]
                    value = "+".join(map(str, values))
                    rows.append((f"{file.stem}/{video}", file.stem, attribute, first, last + 1, value))
    if not rows:
        raise UserError(f"the json files in {folder} hold no video; replace them")
    return pd.DataFrame(rows, columns=["path", "action", "attribute", "start", "end", "value"])


def _fault(given: object, attribute: str) -> str | None:
    """What is wrong with a range and what to do, if anything is."""
    if not isinstance(given, list) or len(given) != 3:
        return "is not [first, last, value]; replace the file"
    first, last, values = given
    values = values if isinstance(values, list) else [values]
    if not values or not all(type(number) is int and 0 <= number < _LAST_FRAME for number in (first, last, *values)):
        return "is not [first, last, value]; replace the file"
    if last < first:
        return "ends before it starts; correct it"
    if max(values) > _GREATEST[attribute]:
        return f"has a value above {_GREATEST[attribute]}, which means nothing; correct it"
    return None


def _common_ranges(part: pd.DataFrame) -> list[tuple[int, int, list[str]]]:
    """(start, end, value of each attribute) of a video's ranges between two boundaries that are fully annotated."""
    tracks = {a: part.loc[part["attribute"] == a, ["start", "end", "value"]].to_numpy().tolist() for a in ATTRIBUTES}
    cuts = sorted({*part["start"], *part["end"]})
    ranges = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        # Where two annotations overlap (one frame in the official files), the later one counts.
        found = [[value for s, e, value in tracks[a] if s <= start < e][-1:] for a in ATTRIBUTES]
        if all(found):
            ranges.append((start, end, [value[0] for value in found]))
    return ranges


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with the column of each task made from the columns of values."""
    values = [[{int(v) for v in cell.split("+")} for cell in row] for row in rows[_VALUES].to_numpy()]
    for task, nudity_from in NUDITY_FROM.items():
        least = {a: nudity_from if a == "nudity" else 1 for a in ATTRIBUTES}
        rows = rows.assign(**{task: ["|".join(_present(row, least)) for row in values]})
    return rows


def _present(values: list[set[int]], least: dict[str, int]) -> Iterable[str]:
    return (a for a, found in zip(ATTRIBUTES, values, strict=True) if max(found) >= least[a])


def frame_values(annotations: pd.DataFrame) -> pd.DataFrame:
    """The value of every annotated frame: index (path, frame), a column per attribute, "" where it is not annotated.

    ``annotations`` is what ``read_annotations`` returns. Officially 52,413 rows, of which face and nudity have 52,412.
    """
    ranges = annotations.reset_index(drop=True)
    frames = ranges.loc[ranges.index.repeat(ranges["end"] - ranges["start"])]
    frames = frames.assign(frame=frames["start"] + frames.groupby(level=0).cumcount())
    frames = frames.drop_duplicates(["path", "frame", "attribute"], keep="last")  # as in the manifest: the later counts
    table = frames.pivot(index=["path", "frame"], columns="attribute", values="value")
    return table.reindex(columns=list(ATTRIBUTES)).fillna("")


def per_video(manifest: Manifest) -> Manifest:
    """``pa_hmdb51_videos``: a row for each video, from its first annotated frame to its last: what a video shows.

    Ours, for the paper does not say how it evaluates: an attribute is present in a video if it is in any of its frames,
    because one frame is enough to give it away. The columns of values hold every value that occurs.
    """
    rows = manifest.rows.groupby("path", sort=False, as_index=False).agg(
        {"split": "first", "start": "min", "end": "max", "group": "first", "action": "first"}
        | {column: lambda cells: "+".join(sorted(set("+".join(cells).split("+")))) for column in _VALUES}
    )
    return Manifest(f"{manifest.name}_videos", manifest.root, manifest.tasks, _labelled(rows))


def from_vispr(vispr: Manifest) -> Manifest:
    """``vispr_pa``: VISPR, labelled with PA-HMDB51's attributes: what f'_B learns to be tested on PA-HMDB51.

    Both tasks have the same labels here. ``vispr`` is a manifest with the task ``vispr1``.
    """
    shown = [set(cell.split("|")) for cell in vispr.rows["vispr1"]]
    cells = ["|".join(a for a in ATTRIBUTES if found & set(VISPR_ATTRIBUTES[a])) for found in shown]
    rows = vispr.rows[["path", "split", "start", "end", "group"]].assign(**dict.fromkeys(TASKS, cells))
    return Manifest("vispr_pa", vispr.root, dict(TASKS), rows)
