"""What `agl recommend` chooses between: questions with a few answers each, from the simplest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agl.estimators.committee import Committee
from agl.estimators.options import Factor, Options, factor

LOSSES = ("mse", "pearson", "listwise")
GENES = ("none", "coexpressed", "all")


def options_for(encoders: Sequence[str], *, context: bool) -> Options:
    """The questions that can be asked of a data set.

    Args:
        encoders: names of the features that it is read with; with several of them, each alone is an answer, too.
        context: whether its spots have places.
    """
    factors = []
    if len(encoders) > 1:
        names = tuple(Path(name).name for name in encoders)
        factors.append(factor("encoder", (*names, "all"), "data.features", [*encoders, list(encoders)]))
    if context:
        sizes = Committee.surroundings
        factors.append(factor("context", ("own", " ".join(map(str, sizes))), "data.context", [[], list(sizes)]))
    factors += [
        factor("normalise", ("train", "slide"), "data.normalise", ("train", "slide")),
        factor("loss", LOSSES, "loss", LOSSES),
        factor("genes", GENES, "auxiliary.genes", GENES),
    ]
    return Options(tuple(factors))


def options_of(factors: Mapping[str, Sequence[str]]) -> Options:
    """Options as an answer tells them: names and answers, without the words of a config."""
    return Options(tuple(Factor(name, tuple(answers), ()) for name, answers in factors.items()))
