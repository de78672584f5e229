"""Finished runs, to be looked at from Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from agl.api.settings import SHORT
from agl.errors import UserError
from agl.runs.folder import Run, find_runs

if TYPE_CHECKING:
    import pandas as pd

    from agl.config import Config
    from agl.prediction.model import Model

SCORES = ["scc", "pcc", "ceiling"]


class Runs(Sequence[Run]):
    """Some finished runs: the folds of one config, the cells of a grid, or whatever lies in a folder.

    >>> runs = agl.train("example", model="ridge")  # doctest: +SKIP
    >>> runs.table()  # doctest: +SKIP
    >>> runs.model(fold=0).save("my_model")  # doctest: +SKIP
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)

    @classmethod
    def below(cls, *folders: str | Path) -> Runs:
        """All finished runs in and below some folders."""
        return cls(find_runs(*folders))

    @overload
    def __getitem__(self, which: int) -> Run: ...

    @overload
    def __getitem__(self, which: slice) -> Runs: ...

    def __getitem__(self, which: int | slice) -> Run | Runs:
        return Runs(self._runs[which]) if isinstance(which, slice) else self._runs[which]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def folders(self) -> list[Path]:
        """Where they are."""
        return [run.folder for run in self._runs]

    @property
    def configs(self) -> list[Config]:
        """Their complete configs."""
        return [run.config for run in self._runs]

    def table(self) -> pd.DataFrame:
        """One row a method: mean and spread over folds and seeds, as `agl table` prints it."""
        from agl.analysis.tables import methods_frame, runs_frame

        return methods_frame(runs_frame(self._runs))

    def scores(self) -> pd.DataFrame:
        """One row a run, slide and gene: run, method settings, fold, seed, slide, gene, scc, pcc, ceiling, undefined.

        `undefined` is where no method could rank: a gene that does not vary on the slide, fewer than three spots.
        """
        import pandas as pd

        from agl.scoring import POOLED

        parts = []
        for run in self._runs:
            table = pd.read_csv(run.folder / "per_gene.csv", dtype={"slide": str, "gene": str}, keep_default_na=False,
                                na_values={name: [""] for name in SCORES})  # fmt: skip
            table = table[table.slide != POOLED].reindex(columns=["slide", "gene", *SCORES])
            config = run.config
            about: dict[str, Any] = {
                "run": run.folder.name,
                "loss": config.loss.name,
                "genes": config.auxiliary.genes.name,
            }
            about |= {"model": config.model.name, "fold": config.fold, "seed": config.seed}
            for position, (name, value) in enumerate(about.items()):
                table.insert(position, name, value)
            parts.append(table.assign(undefined=table.scc.isna()))
        return pd.concat(parts, ignore_index=True)

    def those(self, **wanted: Any) -> Runs:
        """The runs with this fold, seed, or other key of their config."""
        from agl.trees import value_at

        def fits(run: Run) -> bool:
            tree = run.config.to_dict()
            return all(value_at(tree, SHORT.get(key, key)) == value for key, value in wanted.items())

        return Runs([run for run in self._runs if fits(run)])

    def one(self, **wanted: Any) -> Run:
        """The run with this fold, seed, or other key of its config.

        Raises:
            UserError: none, or several.
        """
        found = self.those(**wanted)
        if len(found) != 1:
            what = ", ".join(f"{key}={value}" for key, value in wanted.items()) or "any setting"
            folds = sorted({str(run.config.fold) for run in self._runs})
            raise UserError(
                f"Expected one run with {what}, found {len(found)} of {len(self._runs)} (folds {', '.join(folds)}). "
                "Say fold=..., seed=... or another key of the config."
            )
        return found[0]

    def model(self, **wanted: Any) -> Model:
        """The model of one of the runs; say which, where there are several: `fold=0`, `seed=1`, `loss="mse"`."""
        from agl.runs.model import model_of

        return model_of(self.one(**wanted))

    def ensemble(self, **wanted: Any) -> Model:
        """The average of all these runs' models, folds and seeds of one config, say; its spread is their disagreement.

        It has no left-out slides of its own: every member's test slides were trained on by others.

        >>> runs.ensemble(loss="mse").predict(adata).layers["agl_spread"]  # doctest: +SKIP
        """
        from agl.runs.model import ensemble_of_runs

        return ensemble_of_runs(self.those(**wanted))

    def __repr__(self) -> str:
        if not self._runs:
            return "<no runs>"
        rows = self.table()[["model", "loss", "auxiliary", "scc", "pcc", "runs"]]
        noun = "run" if len(self) == 1 else "runs"
        return f"<{len(self)} finished {noun}>\n{rows.to_string(index=False, float_format='{:.3f}'.format)}"

    def _repr_html_(self) -> str:
        rows = self.table()[["data", "split", "features", "model", "loss", "auxiliary", "scc", "scc_sd", "pcc", "runs"]]
        return f"<p>{len(self)} finished runs</p>{rows.to_html(index=False, float_format='{:.3f}'.format)}"
