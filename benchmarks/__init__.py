"""Benchmarks: the plain way, the best others have, and ours, interleaved in one run (``spact bench``).

Each is a module with ``run() -> records`` (``harness.rows``); what it measured is committed in notebooks/records/bench.
"""

BENCHMARKS = {"minimax": "benchmarks.minimax", "end-to-end": "benchmarks.end_to_end"}
