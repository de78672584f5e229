"""What `agl recommend` chooses between: questions with a few answers each, from the simplest on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agl.estimators.committee import Committee
from agl.estimators.inside import simplest_of_the_best
from agl.trees import written

LOSSES = ("mse", "pearson", "listwise")
GENES = ("none", "coexpressed", "all")


@dataclass(frozen=True)
class Factor:
    """One question and its answers, the simplest first; `words` are the overrides of the config that each stands for.

    Attributes:
        name: encoder, context, normalise, loss or genes.
        answers: in words.
        words: one override an answer.
    """

    name: str
    answers: tuple[str, ...]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.answers)


@dataclass(frozen=True)
class Options:
    """Every combination of answers, in the order of the factors, the last one fastest."""

    factors: tuple[Factor, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Answers of every factor."""
        return tuple(map(len, self.factors))

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Factor -> answer of every combination."""
        for answers in itertools.product(*(factor.answers for factor in self.factors)):
            yield dict(zip((factor.name for factor in self.factors), answers, strict=True))

    def words(self, chosen: Sequence[int]) -> tuple[str, ...]:
        """The overrides of one combination."""
        return tuple(factor.words[answer] for factor, answer in zip(self.factors, chosen, strict=True))

    def answers(self, chosen: Sequence[int]) -> dict[str, str]:
        """Factor -> answer of one combination."""
        return {factor.name: factor.answers[i] for factor, i in zip(self.factors, chosen, strict=True)}

    def by_factor(self, scores: np.ndarray, position: int) -> np.ndarray:
        """Scores `[answer, unit]` of one factor, averaged over the answers to all other questions.

        Args:
            scores: `[*shape, unit]`.
        """
        others = tuple(axis for axis in range(len(self.factors)) if axis != position)
        return np.asarray(scores.mean(axis=others))

    def choose(self, scores: np.ndarray) -> tuple[int, ...]:
        """Question by question, the simplest answer that is within one standard error of the best one.

        A question is answered by its means over all other answers, paired by unit: these are far steadier than the
        scores of single combinations, of which the best one is mostly luck.

        >>> options = Options((Factor("loss", ("mse", "listwise"), ("loss=mse", "loss=listwise")),))
        >>> options.choose(np.array([[0.10, 0.20, 0.15], [0.15, 0.26, 0.20]]))
        (1,)
        """
        return tuple(simplest_of_the_best(self.by_factor(scores, i)) for i in range(len(self.factors)))


def options_for(encoders: Sequence[str], *, context: bool) -> Options:
    """The questions that can be asked of a data set.

    Args:
        encoders: names of the features that it is read with; with several of them, each alone is an answer, too.
        context: whether its spots have places.
    """
    factors = []
    if len(encoders) > 1:
        names = tuple(Path(name).name for name in encoders)
        words = [f"data.features={written(name)}" for name in encoders]
        factors.append(Factor("encoder", (*names, "all"), (*words, f"data.features={written(list(encoders))}")))
    if context:
        sizes = Committee.surroundings
        near = "data.context=[]", f"data.context={json.dumps(sizes)}"
        factors.append(Factor("context", ("own", " ".join(map(str, sizes))), near))
    factors += [
        Factor("normalise", ("train", "slide"), ("data.normalise=train", "data.normalise=slide")),
        Factor("loss", LOSSES, tuple(f"loss={name}" for name in LOSSES)),
        Factor("genes", GENES, tuple(f"auxiliary.genes={name}" for name in GENES)),
    ]
    return Options(tuple(factors))


def options_of(factors: Mapping[str, Sequence[str]]) -> Options:
    """Options as an answer tells them: names and answers, without the words of a config."""
    return Options(tuple(Factor(name, tuple(answers), ()) for name, answers in factors.items()))
