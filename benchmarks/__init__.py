"""Benchmarks: the plain way, the best others have, and ours, interleaved in one run (``spact bench``).

Each is a module with ``run() -> records`` (``harness.rows``); what it measured is committed in notebooks/records/bench.
"""

BENCHMARKS = {  # in the order of a run of all
    "minimax": "benchmarks.minimax",
    "frames": "benchmarks.frames",
    "scaling": "benchmarks.scaling",
    "anonymize": "benchmarks.anonymize",
    "end-to-end": "benchmarks.end_to_end",
}
