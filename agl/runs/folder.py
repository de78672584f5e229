"""One run in one folder: trained once, never redone, never overwritten, resumed after an interruption.

config.yaml        the resolved config, every default written out
provenance.json    data, split, versions, device, seed, time, memory
choice.json        what was chosen inside (`choose:`), and the whole table
panel.csv          genes of the panel, their role, weight and priors
history.jsonl      one line an epoch
checkpoints/       state.pt (to resume), best.safetensors (to predict)
recipe.json        what the inputs are made of, and what they were like
predictions.npz    scores and counts of the primary genes on the test spots
per_gene.csv       scores per gene and slide beside the noise ceiling, and pooled
result.json        the run's numbers; its presence says that the run is finished
tb/                TensorBoard
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agl.config import Config, validate
from agl.errors import UserError, first_line
from agl.places import shortened
from agl.runs.files import sweep_parts
from agl.runs.options import is_open
from agl.runs.provenance import run_id
from agl.trees import read_yaml

if TYPE_CHECKING:
    from agl.data.dataset import Dataset

STRANGERS = 20_000  # folders that are no runs, in which runs are looked for
_PARTS: dict[str, Any] = {"train": None, "validation": None, "test": None}
RECORDED: dict[str, Any] = {  # what the provenance of a run holds, as far as it is read again
    "finished": None,
    "data": {"key": None, "report": {"sections": None}},
    "split": {"name": None, "protocol": None, "optimistic": None, "slides": _PARTS, "spots": _PARTS},
    "packages": {"agl": None, "torch": None},
}


@dataclass(frozen=True)
class Run:
    """A run's folder, and what can be read from it."""

    folder: Path

    def __repr__(self) -> str:
        return f"<Run {self.folder}{'' if self.finished else ', not finished'}>"

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return (self.folder / "result.json").is_file()

    @property
    def result(self) -> dict[str, Any]:
        """The run's numbers."""
        return self._json("result.json")

    def score(self, name: str) -> float:
        """One of the run's numbers; NaN where it is undefined."""
        value = self.result.get(name, "none")
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise UserError(
                f"Expected a number or null as {name} in {self.folder / 'result.json'}, received {shortened(value)}. "
                "Remove that folder and train anew."
            )
        return float("nan") if value is None else float(value)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the result comes from, as far as it was recorded."""
        return self._provenance(whole=False)

    @property
    def whole_provenance(self) -> dict[str, Any]:
        """Where the result comes from, all of it, as a model needs it that is given away."""
        return self._provenance(whole=True)

    def _provenance(self, *, whole: bool) -> dict[str, Any]:
        found = self._json("provenance.json")
        if (place := _lacking(found, RECORDED, whole)) is not None:
            raise UserError(
                f"Expected a run's provenance in {self.folder / 'provenance.json'}, found another {place} or none. "
                "Remove that folder and train anew."
            )
        return found

    @property
    def config(self) -> Config:
        """The resolved config."""
        return validate(read_yaml(self.folder / "config.yaml"))

    @property
    def fitted_config(self) -> Config:
        """The config of what was fitted: what the run left open is what it chose inside."""
        from agl.runs.choosing import read_choice
        from agl.runs.options import chosen_config, options_of_config
        from agl.runs.resolve import complete

        config, choice = self.config, read_choice(self.folder)
        if not config.choose or choice is None:
            return config
        options = options_of_config(config)
        chosen = [each.answers.index(choice["chosen"][each.name]) for each in options.factors]
        return complete(chosen_config(config, options.words(chosen)))

    @property
    def recipe(self) -> dict[str, Any]:
        """What its inputs are made of, as `agl.prediction.recipe.Recipe` reads it."""
        return self._json("recipe.json")

    def _json(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        if not file.is_file():
            raise UserError(
                f"Expected a finished run in {self.folder}, found no {name} there. "
                "Run `agl train` first, or name another folder."
            )
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            found = error
        if not isinstance(found, dict):
            what = f"something else ({first_line(found)})" if isinstance(found, Exception) else type(found).__name__
            raise UserError(f"Expected keys and values in {file}, received {what}. Remove that folder and train anew.")
        return found


def _lacking(found: Any, shape: Mapping[str, Any], whole: bool) -> str | None:
    """The first place where a tree of keys and values is not of this shape; with `whole`, or has nothing."""
    for key, inner in shape.items():
        if key not in found:
            if whole:
                return key
        elif inner:
            place = _lacking(found[key], inner, whole) if isinstance(found[key], dict) else ""
            if place is not None:
                return f"{key}.{place}".rstrip(".")
    return None


def open_run(folder: str | Path) -> Run:
    """The finished run in a folder, or a sentence saying what is missing."""
    run = Run(Path(folder))
    if not run.folder.is_dir():
        raise UserError(f"Expected the folder of a run, received {str(folder)!r}: there is no such folder.")
    if not (run.folder / "config.yaml").is_file():
        raise UserError(
            f"Expected the folder of a run, received {str(folder)!r}, which holds no config.yaml.{_below(folder)}"
        )
    if not run.finished:
        raise UserError(
            f"Expected a finished run in {folder}, found one without a result. "
            f"Start it again with `agl train {run.folder / 'config.yaml'}`; it resumes."
        )
    return run


def _below(folder: str | Path) -> str:
    try:
        found = [str(run) for run in _below_that(Path(folder), "result.json")]
    except UserError:  # a hint is not worth a search of the disk
        return ""
    return f" Below it there are {len(found)}, the first is {found[0]}." if found else ""


def _below_that(folder: Path, name: str) -> Iterator[Path]:
    """Folders with a file of that name, in and below a folder, in the order of their paths; none inside a run.

    Raises:
        UserError: so many folders that are no runs that somebody named the wrong one.
    """
    strangers = 0
    for place, inside, files in os.walk(folder):
        inside.sort()
        if name in files:
            yield Path(place)
        if "result.json" in files:
            inside.clear()
            continue
        strangers += 1
        if strangers > STRANGERS:
            raise UserError(
                f"Expected a folder of runs, received {str(folder)!r} with more than {STRANGERS:,} folders that are "
                "none. Name the one in which the runs are."
            )


def find_runs(*folders: str | Path) -> list[Run]:
    """All finished runs in and below some folders, in the order of their paths."""
    found: dict[Path, Run] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"Expected a folder of runs, received {str(folder)!r}: there is no such folder.")
        for run in _below_that(folder, "result.json"):
            found.setdefault(run.resolve(), Run(run))
    if not found:
        begun = unfinished(*folders)
        also = f" and {len(begun)} unfinished, the first {begun[0]}" if begun else ""
        raise UserError(
            f"Expected finished runs below {', '.join(map(str, folders))}, found none{also}. "
            "Train some with `agl train`."
        )
    return list(found.values())


def unfinished(*folders: str | Path) -> list[Path]:
    """Folders of runs without a result, in and below some folders: failed, interrupted, or still at work."""
    begun = {run for folder in map(Path, folders) for run in _below_that(folder, "config.yaml")}
    return sorted(folder for folder in begun if not Run(folder).finished)


def folder_of(config: Config, dataset: Dataset) -> Path:
    """`output/name/<loss>.<gene set>.<model>.f<fold>.s<seed>.<hash>`; readable, and unique by the hash."""
    parts = {"loss": config.loss, "auxiliary.genes": config.auxiliary.genes, "model": config.model}
    words = ["chosen" if is_open(config, key) else part.name for key, part in parts.items()]
    readable = ".".join(Path(word.replace(":", "-")).name.replace(".py-", "-") for word in words if word)
    return Path(config.output) / config.name / f"{readable}.f{config.fold}.s{config.seed}.{run_id(config, dataset)}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process a run: a second one is refused at once. The lock dies with its process."""
    import fcntl

    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise RunIsBusy(
                f"{folder} is being trained by process {file.read().strip() or '?'}. Wait for it, or stop it first."
            ) from None
        sweep_parts(folder)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class RunIsBusy(UserError):
    """Another process holds this run."""
