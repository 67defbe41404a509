"""The built-in mini datasets: real video and image files in the official layouts, read by the official readers.

``draw`` writes ``official/<dataset>`` (what a download of the real dataset would look like, tiny) and from it, by the
readers of this package, ``<dataset>/manifest.csv``; beside it ``boxes.npz``, where the critter is in every frame. The
same files are read as further datasets too (``FURTHER``).
Labels of a split are dealt, not tossed: each mark, ground, object and action goes to its exact share of the items, by
a shuffle of its own. So all labels are independent of each other, and small splits have positives. In one video of
sixteen the critter rests, whatever the label says, as untrimmed clips of real datasets do: no action column can reach
100, and what a method loses shows.

A drawing is fixed by its draw number and by ``VERSION``. Draw 0 is for development and tuning, 1 is what notebooks
show by default, 101 and up are the claims' replicates, over which the tables average, too: nothing was tuned on them.
"""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from data_prep import DATASETS, prepare
from data_prep import mini_world as world
from spact_lib.errors import UserError, unknown_name
from spact_lib.files import atomic_path, read_json, remove_leftovers, write_json, write_text
from spact_lib.filework import script_left_alone
from spact_lib.video import write_video

# Dataset that is read from the files of another one -> that one.
FURTHER = {
    "hmdb51_without_pa": "hmdb51",
    "pa_hmdb51_videos": "hmdb51",
    "vispr_pa": "vispr",
    "vp_ucf101": "ucf101",
    "vp_hmdb51": "hmdb51",
}

VERSION = 3  # of everything that is written; another version is drawn anew

# Items per split. "unused" are HMDB51's videos with code 0.
SIZES = {
    "mini": {
        "ucf101": {"train": 1200, "test": 1000},
        "hmdb51": {"train": 640, "test": 1000, "unused": 40},
        "vispr": {"train": 1600, "val": 300, "test": 1000},
        "phvu": {"train": 600, "test": 1020},
    },
    "smoke": {
        "ucf101": {"train": 40, "test": 20},
        "hmdb51": {"train": 24, "test": 16, "unused": 2},
        "vispr": {"train": 48, "val": 16, "test": 32},
        "phvu": {"train": 24, "test": 18},
    },
}
_IDS = {"ucf101": 1, "hmdb51": 2, "vispr": 3, "phvu": 4}
_SPLIT_IDS = {"train": 0, "val": 1, "test": 2, "unused": 3}
_CHUNK = 20  # videos that a process draws before it saves their boxes; what a killed drawing loses at most
_IMAGES_PER_VIDEO = 40  # so that a chunk of images takes about as long
_RESTING_SHARE = 1 / 16  # of UCF101's and HMDB51's videos: the critter does nothing, whatever the label says
_ANNOTATED_SHARE = 0.96  # of HMDB51's test videos, for PA-HMDB51, besides all unused ones: 1,000 videos of mini

HVU_ACTIONS = {
    "moving_left": {"x": -1},
    "moving_right": {"x": 1},
    "moving_up": {"y": -1},
    "moving_down": {"y": 1},
    "spinning_left": {"angle": -1},
    "spinning_right": {"angle": 1},
    "orbiting_left": {"orbit": -1},
    "orbiting_right": {"orbit": 1},
    "growing": {"size": 1},
    "shrinking": {"size": -1},
}


@dataclass(frozen=True)
class Item:
    """A file to draw: where (relative to its official folder), what it shows, and its random numbers' seed."""

    path: str
    split: str
    action: str
    look: world.Look
    seed: tuple[int, int, int, int]
    frames: tuple[int, ...] | None = None  # None: a video of all frames; else one frame, an image
    tracks: dict[str, list] | None = None  # PA-HMDB51's annotation, where the video has one


def is_drawn(out: Path, draw: int, scale: str) -> bool:
    """Whether ``draw`` would find everything there, of this version."""
    drawn = out / "drawn.json"
    manifests = [out / name / "manifest.csv" for name in (*DATASETS, *FURTHER)]
    return all(path.exists() for path in (drawn, *manifests)) and read_json(drawn) == _which(draw, scale)


def _which(draw: int, scale: str) -> dict[str, object]:
    return {"version": VERSION, "draw": draw, "scale": scale}


def draw(out: str | Path, draw: int, scale: str) -> dict[str, Path]:
    """Draw all mini datasets into ``out``; returns the folder of each one's manifest.

    Continues a drawing that was interrupted and returns at once when it is finished; a dataset that an older drawing
    does not have is read from its files. Two processes draw; ``scale`` is "mini" (about 5,500 videos and 2,900 images,
    140 MB) or "smoke" (about 150 videos).

    Raises:
        UserError: ``out`` holds anything else, such as another draw; it is left as it was.
    """
    if scale not in SIZES:
        raise unknown_name("scale of the mini data", scale, SIZES)
    if type(draw) is not int or draw < 0:
        raise UserError(f"the draw number of the mini data is {draw!r}; give an integer from 0 up")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    folders = {name: out / name for name in DATASETS}
    done, drawn = _which(draw, scale), out / "drawn.json"
    _begun(out, draw, scale)  # before the lock, too, which is a file in a folder that may be somebody's
    with FileLock(out / ".lock"):
        begun = _begun(out, draw, scale)
        if begun != done:
            drawn.unlink(missing_ok=True)
            for name in (*DATASETS, *FURTHER, "official") if begun else ():  # of an older version
                shutil.rmtree(out / name, ignore_errors=True)
            write_json(out / "begun.json", done)
        if is_drawn(out, draw, scale):
            return folders
        remove_leftovers(out)
        items = {name: plan(name, draw, scale) for name in SIZES[scale]}
        _draw_files(out, items)
        _write_annotations(out / "official", items)
        for name in DATASETS:
            root = "hmdb51" if name == "pa_hmdb51" else name
            prepare(name, out / "official" / root, out)
        hmdb51 = out / "official" / "hmdb51"
        prepare("hmdb51", hmdb51, out, without_pa=hmdb51 / "PrivacyAttributes")
        for name in ("vp_ucf101", "vp_hmdb51"):
            prepare(name, out / "official" / FURTHER[name], out)
        write_json(drawn, done)
    return folders


def _begun(out: Path, draw: int, scale: str) -> dict | None:
    """The note of this drawing in ``out``, or of one by an older version; None: the folder is empty."""
    names = [path.name for path in out.iterdir()]  # first: another process writes its note before all else
    note = out / "begun.json"
    if not note.exists() and all(name == ".lock" or name.startswith(".begun.") for name in names):
        return None
    begun = read_json(note) if note.exists() else None
    if not isinstance(begun, dict) or type(begun.get("version")) is not int:
        raise UserError(f"{out} is not empty and holds no drawing of the mini data; choose another folder")
    if begun["version"] > VERSION:
        raise UserError(f"{out} was drawn by a newer version of spact; update this one, or choose another folder")
    if (begun.get("draw"), begun.get("scale")) != (draw, scale):
        raise UserError(
            f"{out} holds draw {begun.get('draw')} of scale {begun.get('scale')}, not draw {draw} of scale {scale}; "
            "choose another folder"
        )
    return begun


def plan(dataset: str, draw: int, scale: str) -> list[Item]:
    """All files of a dataset and what they show; nothing is drawn."""
    return [
        item
        for split, n in SIZES[scale][dataset].items()
        for item in _PLANS[dataset](split, _deal(draw, dataset, split, n), draw)
    ]


def _shuffled(draw: int, dataset: str, split: str, what: int, n: int) -> np.ndarray:
    # Items count from 0; whatever concerns a whole split is numbered from a million on.
    return np.random.default_rng([draw, _IDS[dataset], _SPLIT_IDS[split], 1_000_000 + what]).permutation(n)


def _deal(draw: int, dataset: str, split: str, n: int) -> list[world.Look]:
    """What the ``n`` items of a split show, but for the action."""
    shares = {**world.MARKS, **world.OBJECTS, **world.WEATHER}
    present = {
        name: _shuffled(draw, dataset, split, k, n) < max(2, round(share * n))
        for k, (name, share) in enumerate(shares.items())
    }
    grounds = _shuffled(draw, dataset, split, len(shares), n) % len(world.GROUNDS)
    return [
        world.Look(
            marks=((0, frozenset(m for m in world.MARKS if present[m][i])),),
            ground=world.GROUNDS[grounds[i]],
            objects=frozenset(o for o in world.OBJECTS if present[o][i]),
            rain=bool(present["rain"][i]),
        )
        for i in range(n)
    ]


def _resting(draw: int, dataset: str, split: str, n: int) -> np.ndarray:
    return _shuffled(draw, dataset, split, 901, n) < _RESTING_SHARE * n


def _seed(draw: int, dataset: str, split: str, i: int) -> tuple[int, int, int, int]:
    return draw, _IDS[dataset], _SPLIT_IDS[split], i


def _plan_ucf101(split: str, looks: list[world.Look], draw: int) -> Iterable[Item]:
    # As in official split 1: groups 1 to 7 are test groups, 8 to 25 training groups.
    first, groups = (8, 18) if split == "train" else (1, 7)
    rests = _resting(draw, "ucf101", split, len(looks))
    for i, look in enumerate(looks):
        action = list(world.KNOWN_ACTIONS)[i % 10]
        group, clip = first + i // 10 % groups, 1 + i // 10 // groups
        path = f"UCF-101/{action}/v_{action}_g{group:02}_c{clip:02}.avi"
        look = replace(look, clocks={} if rests[i] else world.KNOWN_ACTIONS[action])
        yield Item(path, split, action, look, _seed(draw, "ucf101", split, i))


def _plan_hmdb51(split: str, looks: list[world.Look], draw: int) -> Iterable[Item]:
    share = {"train": 0.0, "test": _ANNOTATED_SHARE, "unused": 1.0}[split]
    annotated = _shuffled(draw, "hmdb51", split, 900, len(looks)) < share * len(looks)
    rests = _resting(draw, "hmdb51", split, len(looks))
    for i, look in enumerate(looks):
        action = list(world.NOVEL_ACTIONS)[i % 8]
        # Two clips of each source video; a source stays on one side of the split.
        source, clip = f"{split.capitalize()}_reel_{i // 16:03}", i // 8 % 2
        path = f"{action}/{source}_{action}_f_cm_np1_ba_med_{clip}.avi"
        look, seed, tracks = (
            replace(look, clocks={} if rests[i] else world.NOVEL_ACTIONS[action]),
            _seed(draw, "hmdb51", split, i),
            None,
        )
        if annotated[i]:
            tracks, look = _tracks(look, np.random.default_rng([*seed, 1]))
        yield Item(path, split, action, look, seed, tracks=tracks)


def _plan_vispr(split: str, looks: list[world.Look], draw: int) -> Iterable[Item]:
    for i, look in enumerate(looks):
        path = f"images/{split}2017/2017_{10_000_000 + 100_000 * _SPLIT_IDS[split] + i}.jpg"
        seed = _seed(draw, "vispr", split, i)
        moment = int(np.random.default_rng([*seed, 1]).integers(world.FRAMES))
        yield Item(path, split, "", look, seed, (moment,))


def _plan_phvu(split: str, looks: list[world.Look], draw: int) -> Iterable[Item]:
    order = _shuffled(draw, "phvu", split, 900, len(looks))
    objects = sorted(world.OBJECTS)
    for i, look in enumerate(looks):
        seed = _seed(draw, "phvu", split, i)
        rng = np.random.default_rng([*seed, 1])
        # One or two actions at once, of different clocks.
        first = list(HVU_ACTIONS)[order[i] % 10]
        others = [a for a in HVU_ACTIONS if not set(HVU_ACTIONS[a]) & set(HVU_ACTIONS[first])]
        actions = [first, *rng.choice(others, rng.integers(2))]
        clocks = {clock: sign for action in actions for clock, sign in HVU_ACTIONS[action].items()}
        # The last rows show no object, and so P-HVU's rule leaves them out; all others show one at least.
        shown = look.objects or frozenset([objects[rng.integers(len(objects))]])
        shown = shown if i < len(looks) - max(1, len(looks) // 50) else frozenset()
        look = replace(look, clocks=clocks, objects=shown, prominent=True)
        second = 10 + i % 90
        path = f"videos_{'val' if split == 'test' else split}/mini{split}{i:05}_{second:06}_{second + 3:06}.mp4"
        yield Item(path, split, "|".join(sorted(map(str, actions))), look, seed)


_PLANS = {"ucf101": _plan_ucf101, "hmdb51": _plan_hmdb51, "vispr": _plan_vispr, "phvu": _plan_phvu}


def _draw_files(out: Path, items: dict[str, list[Item]]) -> None:
    """Draw what is missing, in two processes, chunk by chunk."""
    jobs = []
    for name, listed in items.items():
        size = _CHUNK * (_IMAGES_PER_VIDEO if listed[0].frames else 1)
        for start in range(0, len(listed), size):
            boxes = out / name / "boxes" / f"{start:05}.npy"
            if not boxes.exists():
                jobs.append((out / "official" / name, listed[start : start + size], boxes))
    if jobs:
        # Spawned: a forked process would inherit the locks of the libraries that are loaded here.
        context = multiprocessing.get_context("spawn")
        try:
            with script_left_alone(), ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=context) as pool:
                for _ in pool.map(_draw_chunk, jobs):
                    pass
        except BrokenProcessPool:
            text = f"a process that drew into {out} died (out of memory?); the same command continues"
            raise UserError(text) from None
    for name, listed in items.items():
        parts = [np.load(path) for path in sorted((out / name / "boxes").glob("[0-9]*.npy"))]
        with atomic_path(out / name / "boxes.npz") as temporary:
            np.savez_compressed(temporary, path=[item.path for item in listed], boxes=np.concatenate(parts))
    for name, source in {"pa_hmdb51": "hmdb51", **FURTHER}.items():
        (out / name).mkdir(exist_ok=True)
        shutil.copyfile(out / source / "boxes.npz", out / name / "boxes.npz")


def _draw_chunk(job: tuple[Path, list[Item], Path]) -> None:
    folder, items, target = job
    boxes, parent = [], multiprocessing.parent_process()
    for item in items:
        if parent and not parent.is_alive():  # killed: nobody waits for this any more
            os._exit(1)
        path = folder / item.path
        drawn = world.draw(item.look, np.random.default_rng(item.seed), item.frames or range(world.FRAMES))
        seen: list[tuple[int, int, int, int]] = []
        boxes.append(seen)
        frames = (seen.append(box) or picture for picture, box in drawn)
        if item.frames:
            with atomic_path(path) as temporary:
                Image.fromarray(next(frames)).save(temporary, quality=85)
        else:
            write_video(path, frames, world.FPS, codec="mpeg4", quality=9, keyframe_every=12)
    with atomic_path(target) as temporary:
        np.save(temporary, np.array(boxes, np.int16))


def _tracks(look: world.Look, rng: np.random.Generator) -> tuple[dict[str, list], world.Look]:
    """PA-HMDB51's annotation of a video, attribute -> [first, last, value] in order, and ``look`` changed to it.

    A value other than 0 means that the mark is there; which one of them means nothing, but for the face: 2 is the
    complete one (the eyes), 1 only the partial one (the beak).
    """
    # As in the official files, some annotations start late.
    start = int(rng.integers(1, 11)) if rng.random() < 0.1 else 0
    tracks: dict[str, list] = {}
    marks = [set(look.marks[0][1] - set(list(world.MARKS)[:7])) for _ in range(world.FRAMES)]
    for attribute, values in _PA_VALUES.items():
        cuts = start + 8 + np.sort(rng.choice(world.FRAMES - start - 16, rng.integers(0, 3), replace=False))
        tracks[attribute] = []
        for first, end in zip([start, *cuts], [*cuts, world.FRAMES], strict=True):
            present = [mark for mark in values if rng.random() < world.MARKS[mark]]
            codes = values[present[0]] if present else [0]
            tracks[attribute].append([int(first), int(end) - 1, codes[rng.integers(len(codes))]])
            for t in range(first if first > start else 0, end):
                marks[t].update(present)
    changes = [t for t in range(world.FRAMES) if t == 0 or marks[t] != marks[t - 1]]
    return tracks, replace(look, marks=tuple((t, frozenset(marks[t])) for t in changes))


# Attribute of PA-HMDB51 and of VP -> the marks that stand for it, the first one present tells the value -> values of
# PA-HMDB51 to choose from.
_PA_VALUES = {
    "skin_color": {"a17_color": [1, 2, 3, [1, 2], [1, 3], [2, 3]]},
    "face": {"a9_face_complete": [2], "a10_face_partial": [1]},
    "gender": {"a4_gender": [1, 2, [1, 2], [0, 1]]},
    "nudity": {"a12_semi_nudity": [1, 2]},
    "relationship": {"a64_rel_personal": [1], "a65_rel_social": [1]},
}


def _write_annotations(official: Path, items: dict[str, list[Item]]) -> None:
    """The list files, split files, json and csv files of the five datasets, and VP's."""
    lists = official / "ucf101" / "ucfTrainTestlist"
    numbers = {action: n for n, action in enumerate(world.KNOWN_ACTIONS, 1)}
    _write_lines(lists / "classInd.txt", (f"{n} {action}" for action, n in numbers.items()))
    for split in (1, 2, 3):
        # As in the official lists, each split tests on seven other groups.
        tested = [f"_g{group:02}_" for group in range(7 * split - 6, 7 * split + 1)]
        videos = [(item.path.removeprefix("UCF-101/"), item.action) for item in items["ucf101"]]
        test = [video for video, _ in videos if any(group in video for group in tested)]
        train = [f"{video} {numbers[action]}" for video, action in videos if video not in set(test)]
        _write_lines(lists / f"testlist0{split}.txt", test)
        _write_lines(lists / f"trainlist0{split}.txt", train)

    lists = official / "hmdb51" / "testTrainMulti_7030_splits"
    for action in world.NOVEL_ACTIONS:
        listed = [item for item in items["hmdb51"] if item.action == action]
        for split in (1, 2, 3):
            codes = [{"unused": 0, "train": 1, "test": 2}[item.split] for item in listed]
            shift = (split - 1) * len(codes) // 3
            codes = codes[shift:] + codes[:shift]
            lines = (f"{Path(item.path).name} {code} " for item, code in zip(listed, codes, strict=True))
            _write_lines(lists / f"{action}_test_split{split}.txt", lines)
        annotated = {
            Path(item.path).name: {"review": False, **item.tracks, "note": ""} for item in listed if item.tracks
        }
        write_text(official / "hmdb51" / "PrivacyAttributes" / f"{action}.json", json.dumps(annotated))

    for split in ("train", "val", "test"):
        listed = [item for item in items["vispr"] if item.split == split]
        names = [f"annotations/{split}2017/{Path(item.path).stem}.json" for item in listed]
        for name, item in zip(names, listed, strict=True):
            marks = item.look.marks[0][1]
            labels = [mark for mark in world.MARKS if mark in marks] or ["a0_safe"]
            content = {"id": Path(name).stem, "image_path": item.path, "labels": labels}
            (official / "vispr" / name).parent.mkdir(parents=True, exist_ok=True)
            (official / "vispr" / name).write_text(json.dumps(content))
        _write_lines(official / "vispr" / f"{split}2017.txt", names)

    for name in ("ucf101", "hmdb51"):
        lines = ["video,p0,p1,p2,p3,p4"]
        for item in items[name]:
            shown = set().union(*(marks for _, marks in item.look.marks))
            bits = ",".join(str(int(bool(shown & set(marks)))) for marks in _PA_VALUES.values())
            lines.append(f"{'/'.join(Path(item.path).with_suffix('.mp4').parts[-2:])},{bits}")
        _write_lines(official / name / f"vp_{name}.csv", lines)

    # The marks stand among the tags too, as "attribute", a category that P-HVU does not use.
    categories = {
        "action": HVU_ACTIONS,
        "attribute": world.MARKS,
        "concept": ["fun"],
        "object": world.OBJECTS,
    }
    categories["scene"] = [*world.GROUNDS, *world.WEATHER]
    lines = [f"{tag},{category}" for category, tags in categories.items() for tag in tags]
    _write_lines(official / "phvu" / "HVU_Tags_Categories_V1.0.csv", ["Tag,Category", *lines])
    for split, part in (("train", "Train"), ("test", "Val")):
        lines = ["Tags,youtube_id,time_start,time_end"]
        for item in (item for item in items["phvu"] if item.split == split):
            look = item.look
            tags = [*item.action.split("|"), *look.marks[0][1], "fun", *look.objects, look.ground]
            tags = sorted([*tags, *(["rain"] if look.rain else [])])
            video, start, end = Path(item.path).stem.split("_")
            lines.append(f"{'|'.join(tags)},{video},{int(start)}.0,{int(end)}.0")
        _write_lines(official / "phvu" / f"HVU_{part}_V1.0.csv", lines)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
