"""Cells of one worker side by side: what they have in common is made once (`agl.training.sharing`).

`auto` keeps as much as fits into a GiB, `off` nothing, a number that many parts of each kind: datasets, folds, panels,
tables of counts. Results do not depend on it, to the bit. Networks are not stacked into one: on a core a batched matrix
product takes nine tenths of the time of the single ones, and would give other bits (`benchmarks/README.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agl.errors import UserError
from agl.places import shortened

if TYPE_CHECKING:
    from agl.training.sharing import Sharing

AUTO, OFF = "auto", "off"
MOST = 1_000_000


def sharing_of(word: str) -> Sharing:
    """What `--side-by-side WORD` asks for.

    Raises:
        UserError: another word.

    >>> sharing_of("off").most, sharing_of("3").most, sharing_of("auto").most
    (0, 3, None)
    """
    from agl.training.sharing import Sharing

    check_word(word)
    return Sharing() if word == AUTO else Sharing(0 if word == OFF else int(word))


def check_word(word: str) -> None:
    """Before anything is read or written."""
    if word not in (AUTO, OFF) and not (word.isascii() and word.isdecimal() and 1 <= int(word) <= MOST):
        raise UserError(
            f"Expected --side-by-side auto, off or a number from 1 to {MOST:,}, received {shortened(word)}."
        )
