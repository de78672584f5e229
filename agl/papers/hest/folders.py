"""What a benchmark folder holds: tasks with their slides and folds, and the encoders whose embeddings are there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py

from agl.data.reading.spelling import find_slide
from agl.data.splitting.fold_files import read_folds
from agl.errors import UserError, did_you_mean
from agl.papers.hest.published import task_name
from agl.places import regular_file

PANEL = "var_50genes.json"
BUILTIN = "builtin"


@dataclass(frozen=True)
class BenchmarkTask:
    """One task: `<root>/<name>/{adata,patches,splits}`, and where the embeddings of each encoder are."""

    name: str
    folder: Path
    slides: tuple[str, ...]
    folds: tuple[tuple[int, list[str], list[str]], ...]
    encoders: dict[str, Path]

    def same_patient(self, slide: str) -> set[str]:
        """Slides that the benchmark tests together with this one: those of its patient, and itself."""
        return {slide}.union(*(test for _, _, test in self.folds if slide in test))


def find_tasks(root: Path, wanted: list[str], embeddings: Path | None = None) -> tuple[list[BenchmarkTask], list[str]]:
    """The tasks of a benchmark folder, and a sentence about each that cannot be used.

    `root` may also be one task's folder. Embeddings are looked for in `<embeddings>/<task>/<encoder>` (the benchmark's
    own layout), then `<root>/embeddings/<task>/<encoder>` and `<root>/<task>/embeddings/<encoder>`.

    Raises:
        UserError: no such folder, no task in it, a task asked for that is not there, no task that can be used.
    """
    if not root.is_dir():
        raise UserError(f"Expected HEST-bench's folder, received {str(root)!r}: there is no such folder.")
    folders = [root] if (root / "splits").is_dir() else sorted(p for p in root.iterdir() if (p / "splits").is_dir())
    if not folders:
        raise UserError(
            f"Expected task folders with adata/ and splits/ in {root}, found none. Give the folder that holds IDC, "
            "PRAD, ... or fetch a task: agl download hest --task IDC."
        )
    by_name = {folder.name: folder for folder in folders}
    for name in wanted:
        if _find(name, by_name) is None:
            raise UserError(
                f"Expected tasks that are in {root}, received {name!r}.{did_you_mean(name, by_name)} There are "
                f"{', '.join(by_name)}."
            )
    chosen = [_find(name, by_name) for name in wanted] if wanted else list(by_name)
    tasks, broken = [], []
    for name in dict.fromkeys(name for name in chosen if name is not None):
        try:
            tasks.append(read_task(by_name[name], root, embeddings))
        except (UserError, OSError) as error:
            broken.append(f"{name}: {error}")
    if not tasks:
        raise UserError(f"Expected a task that can be used in {root}, found none. {' '.join(broken)}")
    return tasks, broken


def read_task(folder: Path, root: Path, embeddings: Path | None = None) -> BenchmarkTask:
    """One task, checked as far as names go.

    Raises:
        UserError: no folds, a slide of a fold without counts, no gene list.
    """
    slides = sorted(path.stem for path in (folder / "adata").glob("*.h5ad"))
    written = sorted({slide for _, train, test in read_folds("splits", folder) for slide in train + test})
    if missing := [slide for slide in written if find_slide(slide, slides) is None]:
        raise UserError(f"Expected adata/{missing[0]}.h5ad, which the folds name, found none. Fetch the task again.")
    folds = read_folds("splits", folder, slides=slides)
    named = sorted({slide for _, train, test in folds for slide in train + test})
    read_panel(folder)
    return BenchmarkTask(folder.name, folder, tuple(slides), tuple(folds), _encoders(folder, root, embeddings, named))


def read_panel(folder: Path) -> list[str]:
    """The benchmark's 50 genes of a task."""
    path = folder / PANEL
    if path.exists():
        regular_file(path, "the task's genes")
    try:
        genes = json.loads(path.read_text(encoding="utf-8"))["genes"]
    except FileNotFoundError:
        raise UserError(f"Expected the task's genes in {path}, found no such file. Fetch the task again.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f'Expected {{"genes": [...]}} in {path}, found something else. Fetch the file again.') from None
    return [str(gene) for gene in genes]


def choose_encoders(task: BenchmarkTask, wanted: list[str]) -> dict[str, str]:
    """Encoder name to what `data.features` is to say; default: all that have embeddings.

    Raises:
        UserError: an encoder without embeddings, or none at all.
    """
    available = {name: str(path) for name, path in task.encoders.items()}
    if not wanted and available:
        return available
    if (task.folder / "patches").is_dir():
        available[BUILTIN] = BUILTIN
    for name in wanted:
        if name not in available:
            raise UserError(
                f"Expected embeddings of {name!r} for {task.name}, found none.{did_you_mean(name, available)}"
            )
    if not wanted:
        raise UserError(
            f"Expected embeddings for {task.name} (a folder of .h5 files for each encoder), found none. Give "
            "--embeddings FOLDER, or take --encoder builtin, which needs no weights."
        )
    return {name: available[name] for name in wanted}


def _find(name: str, known: dict[str, Path]) -> str | None:
    return next((folder for folder in known if task_name(folder) == task_name(name)), None)


def _encoders(folder: Path, root: Path, embeddings: Path | None, slides: list[str]) -> dict[str, Path]:
    """Folders that hold an embedding file for every slide of the folds."""
    places = [] if embeddings is None else [embeddings / folder.name, embeddings]
    places += [root / "embeddings" / folder.name, folder / "embeddings"]
    found: dict[str, Path] = {}
    for place in places:
        for encoder in sorted(place.iterdir()) if place.is_dir() else []:
            if encoder.is_dir() and all(_is_embedding(encoder / f"{slide}.h5") for slide in slides):
                found.setdefault(encoder.name, encoder)
    return found


def _is_embedding(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with h5py.File(path, "r") as file:
            return "embeddings" in file
    except OSError:
        return False
