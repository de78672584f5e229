"""Errors nobody foresaw, that are still the user's to mend."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from agl.blame import sentence
from agl.places import plain_line


def raised(function) -> BaseException:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        function()
    return caught.value


@pytest.mark.parametrize(
    "function",
    [lambda: np.empty(10**15), lambda: torch.empty(10**15), lambda: torch.empty(2**62, 4)],
    ids=["numpy", "torch", "torch, two axes"],
)
def test_more_memory_than_there_is(function) -> None:
    said = sentence(raised(function))
    assert said is not None
    assert said.startswith("This needs more memory than there is (")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EIO, "the disk or the network failed"),
        (errno.ESTALE, "the network file system lost it"),
        (errno.EMFILE, "too many files are open"),
    ],
)
def test_what_the_system_says(number: int, words: str) -> None:
    said = sentence(OSError(number, os.strerror(number), "S1.h5ad"))
    assert said is not None
    assert said.startswith(f"Could not use S1.h5ad: {words}")


def test_other_errors_of_torch_are_nobodys_fault() -> None:
    assert sentence(raised(lambda: torch.ones(2, 3) @ torch.ones(2, 3))) is None


def test_a_name_cannot_write_to_the_terminal() -> None:
    said = plain_line("no file a\nb\x1b]0;owned\x07 here \u202edna \U0001f9ec")
    assert said == "no file a b\\x1b]0;owned\\x07 here \u202edna \U0001f9ec"
    assert "\x1b" not in said
