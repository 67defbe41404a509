"""Leave-one-group-out evaluation for small datasets of one's own: every video is predicted once, by networks (f_A
included) that never saw its group."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from spact_lib.config import Profile
from spact_lib.errors import UserError
from spact_lib.experiments import predictions
from spact_lib.footnotes import distinct, faults
from spact_lib.manifest import refuse_unlearned
from spact_lib.protocols import Protocol, data_spec
from spact_lib.store import Store, manifest_of
from spact_lib.study import Study, released, test_items
from spact_lib.tables import label, parts_at_hand
from spact_lib.video import letterbox


def folds(profile: Profile, protocol: Protocol, column: str, store: Store, seed: int = 0) -> dict[str, Study]:
    """A study for every value of ``column``, with the rows of that value as its test set.

    Raises:
        UserError: the protocol has two datasets (there is no common group), a multi-label task, an unknown column, only
            one value, or a class that is then tested but not trained.
    """
    learned = [target.learns for target in protocol.targets.values()]
    if len({role.dataset for role in learned}) > 1:
        raise UserError("leaving a group out needs one dataset with both tasks; this protocol has two")
    manifest = manifest_of(data_spec(profile, protocol.action.dataset))
    for role in learned:
        if role.task in manifest.tasks and manifest.tasks[role.task].kind != "single":
            raise UserError(f"task {role.task!r} is multi-label; leave-one-group-out needs single-label tasks")
    if column not in manifest.rows:
        legal = ", ".join(c for c in manifest.rows.columns if c != "path")
        raise UserError(f"no column {column!r} in {manifest.name!r} to leave out by; its columns are: {legal}")
    values = sorted(manifest.rows.loc[manifest.rows["split"] != "unused", column].astype(str).unique())
    if len(values) < 2:
        raise UserError(f"column {column!r} has the one value {values[0]!r}; leaving it out leaves nothing to train on")
    studies = {value: Study(profile, protocol, store, seed, (column, value)) for value in values}
    for study in studies.values():
        for role in learned:
            refuse_unlearned(manifest_of(study.data(role)), role.task)
    return studies


def cross_validate(studies: dict[str, Study], methods: Sequence[str]) -> pd.DataFrame:
    """Accuracy of f'_T and f'_B over all folds together, with exact 95 % binomial intervals.

    Returns:
        A row per method and role: ``correct``, ``n``, ``accuracy``, ``low``, ``high``, ``chance`` (percent; the rate
        of the most frequent class); ``collapsed`` (``footnotes.faults``) where an f_A did.

    Raises:
        UserError: a method that cannot be trained (``Study.check``), before anything is.
    """
    for study in studies.values():
        study.check(methods)
    rows = []
    for method in methods:
        for role in ("action", "privacy"):
            hits, targets, collapsed = [], [], []
            for value, study in studies.items():
                spec = study.target_spec(study.method(method), role)
                probabilities, truth = predictions(study.store, spec)
                said = faults(parts_at_hand(study, [spec]), f"{label(method)} without {value}")
                collapsed.append(said["collapsed"])
                hits.append(probabilities.argmax(1) == truth)
                targets.append(truth)
            correct, truth = int(np.concatenate(hits).sum()), np.concatenate(targets)
            interval = binomtest(correct, len(truth)).proportion_ci(0.95, method="exact")
            rows.append(
                {
                    "method": method,
                    "role": role,
                    "correct": correct,
                    "n": len(truth),
                    "accuracy": 100 * correct / len(truth),
                    "low": 100 * interval.low,
                    "high": 100 * interval.high,
                    "chance": 100 * np.bincount(truth).max() / len(truth),
                    "collapsed": distinct(collapsed),
                }
            )
    table = pd.DataFrame(rows)
    return table if table["collapsed"].any() else table.drop(columns="collapsed")


SHOWN_PER_FOLD = 3


def released_frames(studies: dict[str, Study], methods: Sequence[str]) -> dict[str, np.ndarray]:
    """Middle frames of test videos, spread over each fold, as released: method -> uint8 (n, h, w, 3)."""
    shown: dict[str, list[np.ndarray]] = {method: [] for method in methods}  # (h, w, 3); shapes may differ
    for study in studies.values():
        role = study.protocol.targets["action"].learns
        specs = {method: study.method(method) for method in methods}
        for method, frames in released(study, specs, role, test_items(study, role, SHOWN_PER_FOLD)).items():
            shown[method].extend(frames)
    return {method: letterbox(frames) for method, frames in shown.items()}
