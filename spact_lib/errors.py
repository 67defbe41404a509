"""The one exception that a user can cause and read."""


class UserError(Exception):
    """Bad input: one sentence that says what is wrong, where, and what to do about it.

    The command line prints only this sentence (exit status 2); notebooks show it as the last line of the traceback.
    """


def unknown_name(what: str, given: str, legal) -> UserError:
    """The error for a name that is not one of ``legal``."""
    return UserError(f"unknown {what} {given!r}; choose one of: {', '.join(sorted(map(str, legal)))}")
