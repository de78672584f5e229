"""Questions with a few answers each, from the simplest on, and which combination of answers some scores choose."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agl.estimators.inside import simplest_of_the_best
from agl.trees import overrides


@dataclass(frozen=True)
class Factor:
    """One question and its answers, the simplest first; `words` are the overrides of the config that each stands for.

    Attributes:
        name: of the question: encoder, loss, a key of the config.
        answers: in words.
        words: the overrides of each answer.
    """

    name: str
    answers: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.answers)


def factor(name: str, answers: Sequence[str], key: str, values: Sequence[Any]) -> Factor:
    """A question whose answers are the values of one key of the config, or of several keys where they are mappings.

    >>> factor("loss", ("mse", "list"), "loss", ("mse", {"name": "listwise", "target": "log1p"})).words
    (('loss="mse"',), ('loss="listwise"', 'loss.target="log1p"'))
    """
    return Factor(name, tuple(answers), tuple(tuple(overrides(key, value)) for value in values))


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
        return tuple(word for factor, i in zip(self.factors, chosen, strict=True) for word in factor.words[i])

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

        >>> options = Options((Factor("loss", ("mse", "listwise"), (("loss=mse",), ("loss=listwise",))),))
        >>> options.choose(np.array([[0.10, 0.20, 0.15], [0.15, 0.26, 0.20]]))
        (1,)
        """
        return tuple(simplest_of_the_best(self.by_factor(scores, i)) for i in range(len(self.factors)))
