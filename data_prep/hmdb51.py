"""HMDB51: ``<class>/<video>.avi`` and ``testTrainMulti_7030_splits/<class>_test_split<1|2|3>.txt``.

Official archives: ``hmdb51_org.rar``, which holds a .rar for each class, and ``test_train_splits.rar`` (the split files
may also lie directly in the root). A line of a split file is a video and its code: 1 train, 2 test, 0 unused. Each
split has 3,570 training, 1,530 test and 1,666 unused videos of 51 classes. Validation videos are cut from the training
ones by source (a film, often of several classes): no source has clips in both.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from data_prep import pa_hmdb51
from data_prep.archives import Absent, annotation_folder, refuse_packed, unpack_each
from data_prep.official import check_class_folders, cut_validation, film_of, hmdb51_form, is_name, malformed, read_lines
from data_prep.sources import how_to_get
from spact_lib.errors import UserError, unknown_name
from spact_lib.manifest import Manifest, Task

log = logging.getLogger(__name__)

_CODES = {"0": "unused", "1": "train", "2": "test"}


def prepare(root: Path, *, split: int = 1, lists: Path | None = None, without_pa: Path | None = None) -> Manifest:
    """Manifest of official split ``split`` (1, 2 or 3); ``lists``: where the split files lie if not in ``root``.

    ``without_pa``: PA-HMDB51's root, or the folder of its json files; their 515 videos become unused, whatever the
    split says, so that f'_T can learn on the training rows and be tested on PA-HMDB51. Of split 1 they are 286
    training, 130 test and 99 unused videos. Validation rows are cut after that. The dataset is then called
    ``hmdb51_without_pa``.
    """
    if split not in (1, 2, 3):
        raise unknown_name("split of HMDB51", str(split), (1, 2, 3))
    ending = f"_test_split{split}.txt"
    folder = lists or annotation_folder(
        root, "testTrainMulti_7030_splits", f"*{ending}", "test_train_splits", "testtrainmulti_7030_splits"
    )
    rows: dict[str, tuple] = {}
    classes = []
    files = {path.name.removesuffix(ending): path for path in folder.glob(f"*{ending}")}
    for name, path in sorted(files.items()):  # by class, as PA-HMDB51's files: climb comes before climb_stairs
        if not is_name(name):
            raise UserError(f"{str(path)!r} is not named as a class, in plain UTF-8; rename it")
        classes.append(name)
        codes = set()
        for number, line in read_lines(path):
            video, _, code = line.rpartition(" ")
            if not video.endswith(".avi") or not is_name(video) or code not in _CODES:
                malformed(path, number, line, "<video>.avi <0, 1 or 2>")
            # Clips of one film must not be in both train and val.
            film = film_of(video, name)
            if film is None:
                malformed(path, number, line, f"{hmdb51_form(name)} <0, 1 or 2>")
            if f"{name}/{video}" in rows:
                raise UserError(f"{path}, line {number}: {video} is listed before; replace the file")
            rows[f"{name}/{video}"] = (f"{name}/{video}", _CODES[code], film, name)
            codes.add(code)
        for code, part in (("1", "training"), ("2", "test")):
            if code not in codes:
                raise UserError(f"{path} lists no {part} video (code {code}); replace the split files")
    if not rows:
        raise UserError(f"there is no file *{ending} with videos in {folder}; unpack the official split files there")
    _refuse_packed_classes(root, classes)
    check_class_folders(root, classes, folder)
    table = pd.DataFrame(rows.values(), columns=["path", "split", "group", "action"])
    if without_pa:
        table = _leave_out(table, _pa_videos(without_pa), without_pa)
    manifest_name = "hmdb51" + (f"_split{split}" if split != 1 else "") + ("_without_pa" if without_pa else "")
    tasks = {"action": Task("action", "single", tuple(classes))}
    return Manifest(manifest_name, root, tasks, cut_validation(table, "action"))


def _refuse_packed_classes(root: Path, classes: list[str]) -> None:
    packed = [name for name in classes if (root / f"{name}.rar").exists() and not (root / name).is_dir()]
    if packed:
        where = f"{len(packed)} classes are still packed, as {root / packed[0]}.rar"
        raise UserError(f"{where}; unpack them: {unpack_each(root, '.rar')}")
    if not any((root / name).is_dir() for name in classes):
        refuse_packed(root / classes[0], "hmdb51_org")


def _pa_videos(folder: Path) -> Iterable[str]:
    try:
        return pa_hmdb51.read_annotations(pa_hmdb51.json_folder(folder))["path"].unique()
    except Absent as error:  # of another dataset than the one that is read
        raise UserError(f"{error}; {how_to_get('pa_hmdb51')}") from error


def _leave_out(table: pd.DataFrame, videos: Iterable[str], folder: Path) -> pd.DataFrame:
    unknown = sorted(set(videos) - set(table["path"]))
    if unknown:
        raise UserError(f"{folder} annotates {unknown[0]!r}, which HMDB51's split files do not list; replace the files")
    chosen = table["path"].isin(videos)
    counts = Counter(table.loc[chosen, "split"])
    log.info("hmdb51: %d videos of PA-HMDB51 left out: %s", chosen.sum(), dict(sorted(counts.items())))
    return table.assign(split=table["split"].where(~chosen, "unused"))
