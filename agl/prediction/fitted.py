"""What was fitted and what is known of it: enough to score a slide, without the data it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from agl.config import Config
from agl.errors import ModelError, UserError
from agl.prediction.recipe import Recipe
from agl.prediction.scorers import Scorer
from agl.prediction.slide import Slide


@dataclass(frozen=True, eq=False)
class Prediction:
    """Scores of one slide.

    Attributes:
        slide: its spots.
        scores: `[spot, gene]`; higher ranks higher among the spots of this slide, without a unit.
        spread: `[spot, gene]`, how little a committee's members agree, in spreads of the slide; None for one learner.
        notes: what to know, in sentences.
    """

    slide: Slide
    scores: np.ndarray
    spread: np.ndarray | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FittedModel:
    """What is needed to score a slide, and what is known of how well that goes.

    Attributes:
        genes: that are scored.
        recipe: what its inputs are made of.
        scorer: inputs -> scores.
        config: of the run it comes from.
        about: where it comes from and how it scored on its test spots, as plain values (`agl.prediction.card`).
    """

    genes: tuple[str, ...]
    recipe: Recipe
    scorer: Scorer
    config: Config
    about: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        inputs = self.config.data.features_label
        return f"<Model of {len(self.genes)} genes: {self.config.model.name}, {self.config.loss.name}, on {inputs}>"

    def _repr_html_(self) -> str:
        """The same in a notebook, with where it comes from."""
        rows = {"genes": f"{len(self.genes)}: {', '.join(self.genes[:8])}{', ...' if len(self.genes) > 8 else ''}"}
        rows |= {"model": self.config.model.name, "loss": self.config.loss.name}
        rows |= {"features": self.config.data.features_label, **self.about.get("trained_on", {})}
        cells = (f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table>{''.join(cells)}</table>"

    def score(self, slide: Slide, *, anyway: bool = False) -> Prediction:
        """Scores of a slide's spots.

        Raises:
            ModelError: inputs that are not of the kind that the model was trained on, unless `anyway`.
        """
        import torch

        torch.set_num_threads(self.config.training.threads)
        notes = list(slide.notes)
        sample = slide.own if slide.own is not None else self._colours(slide)
        try:
            notes += self.recipe.compare(slide.name, sample)
        except UserError as error:
            if not anyway:
                raise
            notes.append(str(error))
        scores, spread = self.scorer(slide.inputs(self.recipe), np.zeros(len(slide), dtype=np.int64))
        if not np.isfinite(scores).all():
            raise ModelError(
                f"Expected finite scores of slide {slide.name!r}, received NaN or infinity from the model."
            )
        return Prediction(slide, np.asarray(scores), spread, tuple(notes))

    @staticmethod
    def _colours(slide: Slide) -> np.ndarray:
        """Mean colour of some patches `[patch, channel]`: what a model of patches compares."""
        assert slide.images is not None
        rows = np.linspace(0, len(slide) - 1, min(len(slide), 256)).astype(np.int64)
        return np.asarray(slide.images(np.unique(rows)), dtype=np.float64).mean((1, 2))
