"""VISPR: ``<split>2017.txt`` lists ``annotations/<split>2017/<id>.json``, each with ``image_path`` and ``labels``.

10,000 training, 4,167 validation and 8,000 test images; the official archives unpack to the lists, ``annotations`` and
``images``. Task ``attributes`` has all 68 attributes; ``vispr1`` and ``vispr2`` have seven of them each: the paper's
known and novel privacy attributes. With it ``vispr_pa`` is written: the same images with PA-HMDB51's attributes.
"""

import re
from pathlib import Path

import pandas as pd

from data_prep import pa_hmdb51
from data_prep.archives import absent, refuse_packed
from data_prep.official import Json, is_name, malformed, read_lines
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task

# All 68, in the order of the dataset's attributes.tsv.
ATTRIBUTES = tuple(
    """
    a0_safe a1_age_approx a2_weight_approx a3_height_approx a4_gender a5_eye_color a6_hair_color a7_fingerprint
    a8_signature a9_face_complete a10_face_partial a11_tattoo a12_semi_nudity a13_full_nudity a16_race a17_color
    a18_ethnic_clothing a19_name_full a20_name_first a21_name_last a23_birth_city a24_birth_date a25_nationality
    a26_handwriting a27_marital_status a29_ausweis a30_credit_card a31_passport a32_drivers_license a33_student_id
    a35_mail a37_receipt a38_ticket a39_disability_physical a41_injury a43_medicine a46_occupation
    a48_occassion_work a49_phone a55_religion a56_sexual_orientation a57_culture a58_hobbies a59_sports
    a60_occassion_personal a61_opinion_general a62_opinion_political a70_education_history a99_legal_involvement
    a64_rel_personal a65_rel_social a66_rel_professional a67_rel_competitors a68_rel_spectators a69_rel_views
    a73_landmark a74_address_current_complete a75_address_current_partial a78_address_home_complete
    a79_address_home_partial a82_date_time a85_username a90_email a92_email_content a97_online_conversation
    a102_vehicle_ownership a103_license_plate_complete a104_license_plate_partial
    """.split()
)
VISPR1 = (
    "a17_color",
    "a4_gender",
    "a9_face_complete",
    "a10_face_partial",
    "a12_semi_nudity",
    "a64_rel_personal",
    "a65_rel_social",
)
VISPR2 = (
    "a6_hair_color",
    "a16_race",
    "a59_sports",
    "a1_age_approx",
    "a2_weight_approx",
    "a73_landmark",
    "a11_tattoo",
)
TO_BE_CONFIRMED = "six of its attributes are to be confirmed: the paper names only the tattoo, no source the others"


def read_list(root: Path, split: str) -> list[str]:
    """Paths of the json files of ``split`` (train, val or test), relative to ``root``."""
    path = root / f"{split}2017.txt"
    if not path.exists():
        raise absent(path, "vispr", "vispr_annotations", "annotations", "lists")
    names: dict[str, None] = {}
    for number, line in read_lines(path):
        if not re.fullmatch(rf"annotations/{split}2017/\w+\.json", line):
            malformed(path, number, line, f"annotations/{split}2017/<id>.json")
        if line in names:
            raise UserError(f"{path}, line {number}: {line} is listed before; replace the file")
        names[line] = None
    if not names:
        raise UserError(f"{path} lists no {split} image; replace the file")
    return list(names)


def prepare(root: Path) -> Manifest:
    """Manifest of all three splits, tasks ``vispr1``, ``vispr2`` and ``attributes``."""
    sets = {"vispr1": VISPR1, "vispr2": VISPR2, "attributes": ATTRIBUTES}
    tasks = {task: Task(task, "multi", classes) for task, classes in sets.items()}
    rows = []
    for split in ("train", "val", "test"):
        part = f"{split}2017"
        listed = read_list(root, split)
        if not (root / "annotations" / part).is_dir():
            raise absent(root / "annotations" / part, "vispr", "vispr_annotations", "annotations", part, root=root)
        refuse_packed(root / "images" / part, "vispr", "vispr_images", "images", part, root=root)
        for name in listed:
            content = Json(root / name)
            image, labels = content.get("image_path"), content.get("labels")
            if not isinstance(image, str) or not isinstance(labels, list):
                raise UserError(
                    f"{content.where()}: no 'image_path' (a text) or no 'labels' (a list); replace the file"
                )
            if not all(map(is_name, image.split("/"))):
                where = content.where("image_path")
                raise UserError(f"{where}: image_path {image!r} is no path under {root}; replace the file")
            for n, label in enumerate(labels):
                if label not in ATTRIBUTES:
                    where = content.where("labels", n)
                    raise UserError(f"{where}: label {label!r} is none of VISPR's 68; replace the file")
            cells = ["|".join(c for c in task.classes if c in labels) for task in tasks.values()]
            rows.append((image, split, *cells))
    table = pd.DataFrame(rows, columns=["path", "split", *tasks])
    return Manifest("vispr", root, tasks, table, {"vispr2": TO_BE_CONFIRMED})


def derived(manifest: Manifest) -> list[Manifest]:
    """The datasets that are written with this one: ``vispr_pa``."""
    return [pa_hmdb51.from_vispr(manifest)]
