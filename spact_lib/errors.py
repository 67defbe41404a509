"""The one exception that a user can cause and read."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress


class UserError(Exception):
    """Bad input: one sentence that says what is wrong, where, and what to do about it.

    The command line prints only this sentence (exit status 2); notebooks show it as the last line of the traceback.
    """


class DiskError(UserError):
    """A place that cannot be worked in: no fault of the file that was worked on, the next one meets it too."""


class MissingError(UserError):
    """Something is not there yet, or not on this machine: data, files, weights, a record."""


class DamagedError(UserError):
    """A file of ours does not hold what we wrote: it is there, and never taken for one that is not."""


@contextmanager
def missing_left_out() -> Iterator[None]:
    """Within: what is not there (data, records, weights) is left out; what is damaged, wrong or unreadable is told."""
    with suppress(MissingError):
        yield


def unknown_name(what: str, given: str, legal) -> UserError:
    """The error for a name that is not one of ``legal``."""
    return UserError(f"unknown {what} {given!r}; choose one of: {', '.join(sorted(map(str, legal)))}")
