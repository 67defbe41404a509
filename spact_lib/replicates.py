"""The replicates that the claims are tested on: what they ask for, in which order it is made, their scores.

A replicate is a (data draw, seed), shared by all methods. Its scores are numbers of finished or committed records.
"""

import logging
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from spact_lib.ahead import tables, train, whatever_is_free
from spact_lib.claims import CLAIMS, Cell, Claim, Effect, Scores
from spact_lib.config import Profile
from spact_lib.config import profile as named_profile
from spact_lib.errors import UserError, missing_left_out
from spact_lib.footnotes import FAULTS, distinct, faults
from spact_lib.methods import METHODS, TABLES, further_of_paper
from spact_lib.metrics import headline, headline_chance
from spact_lib.notebooks import REPLICATES, digest
from spact_lib.protocols import protocol as named_protocol
from spact_lib.results import training_forbidden
from spact_lib.store import BusyError, NotTrainedError, trained_parts
from spact_lib.study import Study, open_study
from spact_lib.table_text import largest_taken
from spact_lib.tables import keep_used, label, table
from spact_lib.tables import replicate as named_replicate

log = logging.getLogger(__name__)

# Setting of ``Scores`` -> protocol, and its targets that read a and cMAP.
SETTINGS: dict[str, tuple[str, dict[str, str]]] = {
    "known": ("ucf101_vispr1", {"action": "action", "privacy": "privacy"}),
    "novel": ("novel", {"action": "action", "privacy": "privacy"}),
    "scene_object": ("phvu_scene_to_object", {"action": "action", "privacy": "object"}),
    "scenes_wanted": ("phvu_scenes_wanted", {"action": "action", "privacy": "object"}),
    "other_targets": ("ucf101_vispr1", {"action": "action", "privacy": "privacy"}),
}
ABLATIONS = 3  # of these run the ablations, too
TARGET_SEEDS = (0, 1)  # averaged
# The order in which verdicts are reached: first what costs least and serves the most; K6 costs more than any three.
ORDER = ("K1", "K2", "K8", "K7", "K3", "K4", "K9", "K12", "K10", "K11", "K13", "K14", "K5", "K6")


def datasets() -> list[set[str]]:
    """Names of the datasets of each protocol that ``make`` trains under."""
    names = {name for name, _ in SETTINGS.values()} | {name for _, name in tables()}
    return [{role.dataset for role in named_protocol(name).roles} for name in names]


def cells(condition: Effect) -> list[Cell]:
    """The scores that a condition looks at, in order."""
    asked: dict[Cell, None] = {}

    class Everything(dict):
        def __getitem__(self, key: Cell) -> float:
            asked[key] = None
            return 1.0

    condition(Scores(Everything()))
    return list(asked)


def place(replicate: Sequence[int]) -> int:
    """Of a replicate in ``REPLICATES``; any other one counts as the first."""
    return REPLICATES.index(list(replicate)) if list(replicate) in REPLICATES else 0


def asks(claim: Claim, profile: Profile, replicate: Sequence[int]) -> list[Cell]:
    """The scores that a claim needs of a replicate: none of the fourth and fifth where three are enough. Evidence
    explains what the built-in data show; it is asked of their first replicate."""
    first = profile.source == "mini" and list(replicate) == REPLICATES[0]
    enough = place(replicate) >= claim.replicates
    asked = [] if enough else [cell for each in claim.conditions.values() for cell in cells(each)]
    return [*asked, *claim.evidence.values()] if first else asked


def wanted(profile: Profile, replicate: Sequence[int]) -> list[Cell]:
    """The scores that all claims need of a replicate (draw, seed), in the order of ``ORDER``."""
    return list(dict.fromkeys(cell for name in ORDER for cell in asks(CLAIMS[name], profile, replicate)))


def table_studies(profile: Profile, draw: int, seed: int) -> dict[str, Study]:
    """Table -> study, with the profile's own target seeds, for the tables that notebooks train by default: these are
    averaged over the replicates that run the ablations. As ``studies`` leaves out what is not at hand."""
    found = {}
    for name, protocol in tables() if place((draw, seed)) < ABLATIONS else ():
        with missing_left_out():
            found[name] = _with_data(open_study(profile.name, draw=draw, seed=seed, protocol=protocol))
    return found


def studies(profile: Profile, draw: int, seed: int, target_seeds: Iterable[int] = TARGET_SEEDS) -> dict[str, Study]:
    """The study of each setting for one replicate; a setting whose data are neither here nor committed is left out."""
    found = {}
    for setting, (protocol, _) in SETTINGS.items():
        others = {"target_f_T": profile.other_target_f_T, "target_f_B": profile.other_target_f_B}
        changes = others if setting == "other_targets" else {}
        with missing_left_out():
            found[setting] = _with_data(
                open_study(
                    profile.name, draw=draw, seed=seed, protocol=protocol, target_seeds=tuple(target_seeds), **changes
                )
            )
    return found


def _with_data(study: Study) -> Study:
    """The study, once its data are found."""
    for role in study.protocol.roles:
        study.data(role)
    return study


def score(replicate: Mapping[str, Study], cell: Cell) -> float:
    """One score, mean over the target seeds; what is missing is trained.

    Raises:
        NotTrainedError: a record is missing where training is forbidden.
    """
    return _read(replicate, cell)[0]


def _read(replicate: Mapping[str, Study], cell: Cell) -> tuple[float, float, dict[str, str]]:
    """The score, its chance line, and what ``footnotes.faults`` says of it."""
    setting, name, role = cell
    study = replicate[setting]
    known = replicate.get("known", study)
    # f_A* is learned, and its omega chosen, once: other targets and novel data are read through the same one.
    method = (known if study.init_f_A == known.init_f_A else study).method(name)
    target, found, chance, made = SETTINGS[setting][1][role], [], [], []
    for seed in study.profile.target_seeds:
        spec = study.target_spec(method, target, seed)
        metrics = study.store.run(spec).metrics
        found.append(headline(metrics))
        chance.append(headline_chance(metrics))
        made += [(part, study.store.run(part).metrics) for part in trained_parts(spec).values()]
    said = faults(made, f"{label(name)} of {named_replicate(study)}")
    return float(np.mean(found)), float(np.mean(chance)), said


def collect(replicate: Mapping[str, Study], asked: Iterable[Cell]) -> Scores:
    """The scores of one replicate of which there are records."""
    found, chance, said = {}, {}, []
    for cell in asked:
        if cell[0] in replicate and cell[1] in METHODS:
            with suppress(NotTrainedError):
                setting, _, role = cell
                found[cell], chance[setting, role], faults_of_cell = _read(replicate, cell)
                said.append(faults_of_cell)
    return Scores(found, chance, **{column: distinct(each[column] for each in said) for column in FAULTS})


def gather(
    profile: Profile, replicates: Iterable[Sequence[int]] = REPLICATES, target_seeds: Iterable[int] = TARGET_SEEDS
) -> list[tuple[dict[str, Study], Scores]]:
    """The studies and scores of each replicate (draw, seed), from finished or committed records: nothing is trained.

    The studies of ``table_studies`` are among them, so that the records of their tables are kept, too.
    """
    with training_forbidden():
        found = []
        for draw, seed in replicates:
            replicate = studies(profile, draw, seed, target_seeds)
            scores = collect(replicate, wanted(profile, (draw, seed)))
            of_tables = table_studies(profile, draw, seed)
            for name, study in of_tables.items():
                with missing_left_out():
                    table(name, study)
            found.append((replicate | of_tables, scores))
        return found


def took_the_largest(found: Iterable[tuple[Mapping[str, Study], Scores]]) -> str:
    """A sentence: in how many replicates rows took the largest omega or sigma of their grid, where that is known."""
    counts: dict[str, list[bool]] = {}
    for studies, _ in found:
        for name in ("spact", "supervised", "noise_features"):
            with training_forbidden(), suppress(KeyError, NotTrainedError):
                counts.setdefault(name, []).append(studies["known"].took_the_largest(name))
    told = {name: (sum(each), len(each)) for name, each in counts.items() if each}
    return largest_taken(told) or "Which omegas and sigmas were chosen is not known yet."


def keep(replicate: Mapping[str, Study]) -> Path | None:
    """Keep the records that were looked up for a replicate (``tables.keep_used``): a file each, to be promoted alone.

    None where there are none. What is not the claims' own gets a name that is not promoted.
    """
    if not any(study.store.used for study in replicate.values()):
        return None
    known = next(iter(replicate.values()))
    draw, seed = known.profile.draw, known.seed
    own = [draw, seed] in REPLICATES and known.profile.target_seeds == TARGET_SEEDS
    return keep_used(f"claims_draw{draw}" if own else f"claims-draw{draw}-seed{seed}", *replicate.values())


def suffix(replicates: Sequence[Sequence[int]], target_seeds: Sequence[int]) -> str:
    """As ``notebook_setup.suffix``, for notebook 12: nothing for the claims' own replicates and target seeds."""
    own = [list(pair) for pair in replicates] == list(REPLICATES) and tuple(target_seeds) == TARGET_SEEDS
    return "" if own else f"-{digest(replicates, target_seeds)}"


def chosen(draws: Sequence[int]) -> list[list[int]]:
    """The replicates of these draws; none: all."""
    legal = [draw for draw, _ in REPLICATES]
    if unknown := [draw for draw in draws if draw not in legal]:
        raise UserError(f"draw {unknown[0]} is no replicate of the claims; choose from: {', '.join(map(str, legal))}")
    return [pair for pair in REPLICATES if not draws or pair[0] in draws]


def make(profile_name: str, replicates: Sequence[Sequence[int]]) -> list[str]:
    """Train what the claims ask of replicates: claim by claim in ``ORDER``, each over all replicates; then the tables,
    with the paper's further rows.

    What another process is making is left for later.

    Returns:
        What failed, a sentence each; all else is made.
    """
    profile = named_profile(profile_name)
    opened = {tuple(pair): studies(profile, *pair) for pair in replicates}
    asked = [(pair, cell) for name in ORDER for pair in opened for cell in asks(CLAIMS[name], profile, pair)]
    items = [(opened[pair][cell[0]], pair, cell) for pair, cell in dict.fromkeys(asked) if cell[0] in opened[pair]]
    for pair in opened:
        items += [
            (study, pair, (name, row, target))
            for name, study in table_studies(profile, *pair).items()
            for row in (*TABLES[name], *further_of_paper(name))
            for target in study.protocol.targets
        ]
    failed = []

    def one(item: tuple[Study, tuple[int, int], Cell]) -> None:
        study, pair, cell = item
        try:
            if cell[0] in TABLES:
                return train((study, *cell[1:]))
            value = score(opened[pair], cell)
            if multiprocessing.parent_process() is None:  # what others made is found here, too, and told once
                log.info("claims: %s, %s: %.1f", named_replicate(study), " ".join(cell), value)
        except BusyError:
            raise
        except UserError as error:
            failed.append(f"{named_replicate(study)}, {' '.join(cell)}: {error}")

    whatever_is_free(items, one)
    return failed
