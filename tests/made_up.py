"""Records of Table 1 that nobody trained, for what is made of records."""

from spact_lib.methods import METHODS
from spact_lib.store import trained_parts
from spact_lib.study import Study

# Top-1, cMAP, F1 of each method in replicate 1; replicate 2 lies a little higher.
SCORES = {
    "raw": (90.0, 80.0, 0.8),
    "identity": (90.0, 76.0, 0.78),
    "downsample_2x": (85.0, 72.0, 0.7),
    "downsample_4x": (70.0, 60.0, 0.6),
    "obf_blackening": (60.0, 64.0, 0.6),
    "obf_weak_blur": (88.0, 79.0, 0.75),
    "supervised": (88.0, 50.0, 0.4),
    "spact": (89.0, 60.0, 0.5),
}


def made_up_records(study: Study, shift: float) -> dict[str, dict]:
    """A record for every spec that Table 1 asks for; omega 0.5 of SPAct does not keep the action, 0.25 does."""
    records = {}

    def add(spec, metrics: dict, seconds: float) -> None:
        environment = {"device": "cpu (test)", "threads": 2}
        content = {"kind": spec.kind, "key": spec.key(), "metrics": metrics, "seconds": seconds, "made": "2026"}
        records[spec.key()] = content | {"environment": environment}

    for name, (top1, cmap, f1) in SCORES.items():
        if isinstance(METHODS[name], str) and name != "identity":
            candidates = [(study.method(name), 90.0)]
        elif name == "identity":
            candidates = [(study.init_f_A, 90.0)]
        else:
            vals = {0.5: 80.0, 0.25: 89.0} if name == "spact" else {0.5: 89.0}
            candidates = [(study.anonymizer(name, omega), val) for omega, val in vals.items()]
        for method, val in candidates:
            for seed in (0, 1):
                wobble = 0.5 - seed  # the two target seeds lie 0.5 above and below the mean
                action = {"top1": top1 + shift + wobble, "top1_chance": 10.0, "val": val}
                privacy = {"cmap": cmap + shift + wobble, "cmap_chance": 30.0, "f1": f1, "f1_chance": 0.4, "val": 1.0}
                privacy["n_classes"] = 7
                add(study.target_spec(method, "action", seed), action, 60)
                add(study.target_spec(method, "privacy", seed), privacy, 30)
            for part in trained_parts(method).values():
                if part.key() not in records:
                    add(part, {}, 120)
    return records
