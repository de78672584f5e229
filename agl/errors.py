"""A user's mistake is one sentence: what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can mend. The command line prints it without a traceback and exits with status 2."""


class ConfigError(UserError):
    """A setting, study file or component that does not exist or cannot be."""


class DataError(UserError):
    """Sections, features or splits that are missing, damaged, contradictory, or read in a way they do not allow."""


class LeakError(DataError):
    """The same patient, section or spots on both sides of a split."""


class ModelError(UserError):
    """A model that cannot be read, or a slide it cannot be used on."""


def refuse_to_write(value: object) -> None:
    """For `json.dumps(default=...)`: what a plugin puts into a record or a summary must be plain."""
    raise UserError(
        f"Expected numbers, words, lists and dicts of them to write down, received {type(value).__name__}. "
        "A plugin turns it into one with .item() or .tolist()."
    )


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint naming the nearest known word, or the known words when none is near.

    >>> did_you_mean("listwse", ["listwise", "pairwise"])
    " Did you mean 'listwise'?"
    >>> did_you_mean("zzz", ["listwise", "pairwise"])
    ' Known: listwise, pairwise.'
    """
    words = sorted(map(str, known))
    near = get_close_matches(str(name)[:200], words, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(words)}." if words else ""
