"""C1 and C2 (Eq. 1, 2), measured: may an action model that is in use stay, and what does an unprepared attacker see?

C1 asks that L_T of an action model is the same on anonymized data as on raw data, C2 that L_B of a privacy model is
far larger. The paper reports models retrained on anonymized data; here those and models learned on raw data
(unprepared) are both tested on both.
"""

import pandas as pd

from spact_lib.config import BaselineSpec
from spact_lib.study import Study
from spact_lib.tables import METRICS, label


def c1_c2(study: Study, name: str) -> pd.DataFrame:
    """Targets learned on raw data and on what a method releases, each tested on both.

    Returns:
        Index (metric, learned on, tested on), metrics as in ``tables.table``. Columns, means over the target seeds:
        ``here`` (top-1 and cMAP in percent, F1 in [0, 1]), ``chance``, ``loss`` (L_T or L_B of the predictions averaged
        over a row's test clips, in nats).
    """
    methods = {"raw": BaselineSpec(name="raw"), name: study.method(name)}
    rows = {}
    for target, asked in study.protocol.targets.items():
        for learned, on in methods.items():
            for tested, other in methods.items():
                specs = [study.score_spec(on, target, seed, tested=other) for seed in study.profile.target_seeds]
                of_seeds = [study.store.run(spec).metrics["scores"] for spec in specs]
                for column, scores in zip(asked.columns, zip(*of_seeds, strict=True), strict=True):
                    means = pd.DataFrame(scores)
                    for metric in (metric for metric in METRICS if metric in means):
                        rows[f"{column.name} {METRICS[metric]}", label(learned), label(tested)] = {
                            "here": means[metric].mean(),
                            "chance": means[f"{metric}_chance"].mean(),
                            "loss": means["loss"].mean(),
                        }
    found = pd.DataFrame.from_dict(rows, orient="index")
    found.index = pd.MultiIndex.from_tuples(rows, names=["metric", "learned on", "tested on"])
    return found
