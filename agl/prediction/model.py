"""A model to work with: read it, score slides that it has never seen, give it away."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl import hub
from agl.data.memory import as_folder, in_memory, slides_of
from agl.data.reading.formats.known import Formats
from agl.errors import ModelError
from agl.prediction import folder as model_folder
from agl.prediction.fitted import FittedModel
from agl.prediction.locate import locate_slide
from agl.prediction.output import annotate, to_anndata
from agl.prediction.slide import Slide, read_slide, slide_of

if TYPE_CHECKING:
    import anndata

    from agl.prediction.cohort import CohortScores


class Model(FittedModel):
    """A `FittedModel` that finds and reads the slides it scores.

    >>> model = Model.load("my_model")  # doctest: +SKIP
    >>> model.predict("slide.h5ad").layers["agl_score"]  # doctest: +SKIP
    """

    @classmethod
    def of(cls, fitted: FittedModel) -> Model:
        """The same, to work with."""
        return cls(**{each.name: getattr(fitted, each.name) for each in fields(fitted)})

    @classmethod
    def load(cls, folder: str | Path, *, trust: bool = False) -> Model:
        """Read what `save` wrote, or what `push` sent to `hf://OWNER/NAME`.

        Args:
            trust: also a model that brings Python code of its own, which is then run.
        """
        found = hub.fetch(str(folder)) if str(folder).startswith(hub.SCHEME) else Path(folder)
        return cls.of(model_folder.read(found, trust=trust))

    def predict(
        self,
        source: Any,
        *,
        root: Path | str | None = None,
        features: str | Sequence[str] = (),
        anyway: bool = False,
        inplace: bool = False,
    ) -> anndata.AnnData:
        """Scores of a slide as an AnnData with the layer `agl_score`; no counts are needed.

        Args:
            source: an h5ad, a feature file, a patch file, a folder with one section; with `root`, a section's name;
                or an AnnData, with `features` naming keys of its `obsm`.
            features: of the slide, where they are not found under the names they had in training.
            anyway: also where they are not like those in training.
            inplace: write into the AnnData that is given: `obsm["agl_score"]` and `uns["agl"]`.
        """
        given = (features,) if isinstance(features, str) else tuple(features)
        if hasattr(source, "obsm"):
            made = self.score(
                slide_of(source, self.recipe, given or [Path(name).name for name in self.recipe.names]), anyway=anyway
            )
            return annotate(self, made, source, inplace=inplace)
        if inplace:
            raise ModelError("Expected an AnnData to write into, received a file. Leave inplace away.")
        return to_anndata(self, self.score(self.read(source, root=root, features=given), anyway=anyway))

    def read(self, source: str | Path, *, root: Path | str | None = None, features: Sequence[str] = ()) -> Slide:
        """A slide's files, read as the model needs them."""
        formats = Formats(self.config.data.formats)
        files = locate_slide(source, self.recipe, formats, root=None if root is None else Path(root), features=features)
        return read_slide(files, self.recipe, formats)

    def evaluate(
        self,
        data: Any,
        *,
        features: str | Sequence[str] = (),
        slide: str = "slide",
        anyway: bool = False,
        seed: int = 0,
    ) -> CohortScores:
        """Scores on an outside cohort; see `agl.prediction.cohort`.

        Args:
            data: a folder of slides with counts; one h5ad; an AnnData with a column of slides in obs (without one it
                counts as one slide); a list or dict of AnnData, one a slide.
            features: of the cohort, where they are not found under the names they had in training; for AnnData keys
                of obsm.
            slide: the column of obs.
            anyway: also where features are not like those in training.
            seed: of the ceilings.

        >>> model.evaluate([adata_1, adata_2]).genes  # doctest: +SKIP
        """
        from agl.prediction.cohort import evaluate, folder_of_slides

        given = (features,) if isinstance(features, str) else tuple(features)
        if in_memory(data):
            return self._evaluate_in_memory(data, given, slide, anyway, seed)
        read = partial(self.read, root=folder_of_slides(data), features=given)
        return evaluate(self, data, read, anyway=anyway, seed=seed)

    def _evaluate_in_memory(
        self, data: Any, given: tuple[str, ...], column: str, anyway: bool, seed: int
    ) -> CohortScores:
        """Counts by way of the cache, by the same rules as files; features as they lie in obsm."""
        from agl.prediction.cohort import evaluate

        alone = hasattr(data, "obsm") and column not in data.obs
        slides = slides_of({"slide": data} if alone else data, column)
        keys = given or tuple(Path(name).name for name in self.recipe.names)
        inputs = {name: slide_of(part, self.recipe, keys, name=name) for name, part in slides.items()}
        home, _ = as_folder(slides, features=keys, slide=column)
        found = evaluate(self, home, inputs.__getitem__, anyway=anyway, seed=seed)
        note = f"obs has no column {column!r}: all spots are scored as one slide"
        return replace(found, notes=[note, *found.notes]) if alone else found

    def save(self, folder: str | Path) -> Path:
        """Write the model into a new folder that can be given away (`agl.prediction.folder`)."""
        return model_folder.save(self, Path(folder))

    def push(self, repository: str, *, private: bool = True) -> str:
        """Send the model's folder to OWNER/NAME on the Hugging Face hub; its page. Needs `agl[hub]` and a login."""
        hub.check_name(repository)
        with tempfile.TemporaryDirectory() as place:
            return hub.push(self.save(Path(place) / "model"), repository, private=private)
