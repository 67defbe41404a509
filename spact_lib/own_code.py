"""Code of one's own behind a spec, such as a baseline that a notebook defines. A result's name is made of names and
settings: it must not be found again, nor be gone on with, once other code stands behind a name."""

import hashlib
import inspect
from collections.abc import Iterator

from spact_lib.action_losses import ACTION_LOSSES
from spact_lib.baselines import BASELINES
from spact_lib.branches import BRANCHES
from spact_lib.config import Spec
from spact_lib.networks.action import ACTION_NETWORKS
from spact_lib.networks.privacy import ENCODERS

TABLES = (BASELINES, BRANCHES, ACTION_LOSSES, ENCODERS, ACTION_NETWORKS)
# As they are imported: what a file of the library has is not seen here.
BUILT_IN = tuple(dict(table) for table in TABLES)


def own_code(spec: Spec) -> dict[str, str]:
    """Name -> SHA-256 of the source, of all functions and classes of one's own that ``spec`` names.

    What has no source (typed into a plain Python prompt) is left out; nor are functions seen that these call.
    """
    mine = {
        name: made
        for table, built_in in zip(TABLES, BUILT_IN, strict=True)
        for name, made in table.items()
        if built_in.get(name) is not made
    }
    if not mine:
        return {}
    named = {part for text in _texts(spec.model_dump(mode="json")) for part in text.split("+")}
    found = {}
    for name in sorted(mine.keys() & named):
        try:
            found[name] = hashlib.sha256(inspect.getsource(mine[name]).encode()).hexdigest()
        except (OSError, TypeError):
            continue
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
