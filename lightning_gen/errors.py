"""The one exception that means "what you asked for cannot be done, and here is what would be right"."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input, told in one sentence that names the key or file, its value, and what would be right.

    The command line prints the sentence and exits with status 2; a traceback appears only under `--debug`.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the choice nearest to `name`, capitals aside, or an empty string.

    What was given is never suggested.
    """
    lowered: dict[str, str] = {}
    for choice in sorted(set(choices) - {name}):
        lowered.setdefault(choice.lower(), choice)
    match = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return f" (did you mean {lowered[match[0]]!r}?)" if match else ""
