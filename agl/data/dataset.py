"""Opening a dataset: sections on disk -> cached imports, one for each encoder -> features in their surroundings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import sparse

from agl.data.encoders import Encoders, encoder_names
from agl.data.reading.cache import cache_root, doubt, get_or_build
from agl.data.reading.content_key import content_key, imported_key
from agl.data.reading.formats.known import Formats, Name
from agl.data.reading.importing import Progress, Request, import_sections
from agl.data.reading.join import MIN_MATCHED
from agl.data.reading.locate import BUILTIN, NONE, locate_features
from agl.data.reading.patches import PatchReader
from agl.data.reading.sections import SectionFiles, choose, scan_folder, with_patients
from agl.data.slides import Dataset
from agl.data.surroundings import Surroundings
from agl.errors import DataError, UserError

T = TypeVar("T")


def open_dataset(
    root: Path | str,
    *,
    features: str | Path | Sequence[str | Path] = BUILTIN,
    context: Iterable[int] = (),
    normalise: str = "train",
    places: bool = False,
    cache_dir: Path | str | None = None,
    sections: Sequence[str] | None = None,
    min_counts: int = 0,
    tolerance: float | None = None,
    min_matched: float = MIN_MATCHED,
    metadata: Path | str | None = None,
    formats: Iterable[Name] = (),
    progress: Progress | None = None,
) -> Dataset:
    """Open the sections under `root`, importing them into the cache the first time.

    Args:
        root: a HEST-bench task folder, HEST-1k, a folder of h5ad, or one h5ad (`sections.find_sections`).
        features: "builtin" computes them from the patches, "none" reads none, else a folder, an encoder's
            name or a pattern of feature files (`locate.locate_features`). Spots without features (with
            "none": without a patch, in slides that have patches) are left out and reported. Several of them
            are joined side by side, over the spots that all have.
        context: numbers of nearest spots of the slide, such as [8, 24], whose mean features are appended to a
            spot's own (`surroundings.surround`).
        normalise: "slide" centres and scales features inside each slide; "train" leaves it to the models.
        places: whether x and y, from the middle of the slide and in pitches, are appended as features.
        cache_dir: default `$AGL_CACHE`, else `~/.cache/agl`.
        sections: names of the slides to open; all when None.
        min_counts: spots with a smaller library size are left out. They still lend their features to their
            neighbours' context and to their slide's mean: features never depend on counts.
        tolerance: largest distance, in full-resolution px, of a join by coordinates (`join.join`).
        min_matched: share of a slide's spots on tissue that need features (with "none": patches); fewer are refused.
        metadata: a table with the patient of each section, if it is not found by itself.
        formats: feature-file formats of your own, such as `mine.py:Zarr` (`formats.base.Format`).
        progress: called as `progress(slide, done, total)` while importing.

    Raises:
        DataError: one sentence for each way the input can be wrong.

    >>> import tempfile
    >>> from agl.data.simulate.task import simulate
    >>> with tempfile.TemporaryDirectory() as d:
    ...     root = simulate(f"{d}/task", n_patients=2, slides_per_patient=1, spots_per_slide=9, seed=0)
    ...     dataset = open_dataset(root, features="none", cache_dir=f"{d}/cache")
    ...     dataset.slide_names, dataset.counts.shape[0], dataset.dense_counts([0, 17], [3, 1]).shape
    (('P1S1', 'P2S1'), 18, (2, 2))
    """
    if isinstance(min_counts, bool) or not isinstance(min_counts, int | np.integer) or min_counts < 0:
        raise DataError(f"Expected min_counts as a whole number from 0, received {min_counts!r}; 0 keeps all spots.")
    names, surroundings = encoder_names(features), Surroundings.of(context, normalise, places)
    plain = len(names) == 1 and surroundings.none
    if NONE in names and not plain:
        raise DataError(
            f"Expected features to join, to normalise or to give a context, received features={NONE}: patches have "
            "none before the model. Leave context, normalise and other encoders away, or choose features=builtin "
            "or an encoder's."
        )
    cache = cache_root(cache_dir)
    imported = partial(
        _imported, root, sections, cache, tolerance, min_matched, metadata, Formats(formats), progress or _silent
    )
    opened = {name: imported(name, int(min_counts)) for name in names}
    if plain:
        return opened[names[0]]
    encoders = Encoders(
        [(name, d if _all_counted(d.report) else imported(name, 0)) for name, d in opened.items()],
        int(min_counts),
        surroundings,
    )
    table = _read(
        cache,
        encoders.key,
        lambda target: {"about": encoders.write(target)},
        lambda folder: np.load(folder / "features.npy", mmap_mode="r"),
    )
    first = opened[names[0]]
    rows = encoders.rows_in(first.spots)
    return replace(
        first if len(rows) == len(first) else first.subset(rows),
        features=table,
        left_out=encoders.left_out,
        key=encoders.key,
        report=encoders.report([each.report for each in opened.values()]),
    )


def _imported(
    root: Path | str,
    sections: Sequence[str] | None,
    cache: Path,
    tolerance: float | None,
    min_matched: float,
    metadata: Path | str | None,
    formats: Formats,
    progress: Progress,
    features: str,
    min_counts: int,
) -> Dataset:
    """The import of one encoder's features, as the files have them."""
    folder = scan_folder(root, metadata=metadata)
    files = choose(folder, sections)
    feature_files = locate_features(features, folder.root, [f.slide for f in files], formats)
    overlooked = folder.overlooked() if sections is None else []
    kind = "files" if feature_files else features
    key = content_key(folder, files, feature_files, kind, formats, min_counts, tolerance, min_matched, cache)

    def build(target: Path) -> dict[str, Any]:
        found = tuple(with_patients(folder, files))
        request = Request(found, feature_files, kind, min_counts, tolerance, min_matched, formats, progress)
        return {"about": import_sections(request, target)}

    def read(folder: Path) -> Dataset:
        dataset = load(folder, files)
        patches = [f.patches for f in files] if dataset.features is None else None
        warnings = [*dataset.report["warnings"], *overlooked]
        return replace(
            dataset, key=imported_key(folder, patches, cache), report=dataset.report | {"warnings": warnings}
        )

    return _read(cache, key, build, read)


def _read(cache: Path, key: str, build: Callable[[Path], Mapping[str, Any]], read: Callable[[Path], T]) -> T:
    """What `read` makes of a cached folder; of one that was changed or deleted meanwhile, once it is built again."""
    for _ in range(2):
        folder = get_or_build(cache, key, build)
        try:
            return read(folder)
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            doubt(cache, key)
            reason = str(error).partition("\n")[0]
    raise DataError(
        f"Expected the cached import {folder} to stay as it is while it is read, found it gone or changed ({reason}); "
        "start the command again."
    )


def _all_counted(report: dict[str, Any]) -> bool:
    """Whether min_counts left no spot out that has features."""
    joined = [s["features"] or s["patches"] for s in report["sections"].values()]
    return all(
        s["spots_kept"] == table["matched_spots"] for s, table in zip(report["sections"].values(), joined, strict=True)
    )


def load(folder: Path, files: Sequence[SectionFiles]) -> Dataset:
    """A cached import as a dataset; patches are read from the original `files`."""
    spots = _read_index(folder / "index.csv")
    genes = tuple(json.loads((folder / "genes.json").read_text("utf-8")))
    report = json.loads((folder / "report.json").read_text("utf-8"))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("indptr", "indices", "data")}
    features = folder / "features.npy"
    dataset = Dataset(
        spots,
        genes,
        _mapped_csr(arrays["data"], arrays["indices"], arrays["indptr"], (len(spots), len(genes))),
        np.load(folder / "library_size.npy"),
        np.load(features, mmap_mode="r") if features.is_file() else None,
        None,
        folder.name,
        report,
        folder,
        np.load(folder / "feature_rows.npy"),
        _read_index(folder / "left_out.csv") if (folder / "left_out.csv").is_file() else None,
    )
    if report["patch_shape"] is None:
        return dataset
    height, width, channels = report["patch_shape"]
    reader = PatchReader(
        tuple(f.patches or f.counts for f in files),  # a slide without patches has no row, so its file is never read
        dataset.slide_codes,
        np.load(folder / "patch_rows.npy"),
        (height, width, channels),
    )
    object.__setattr__(dataset, "patches", reader)
    return dataset


def _read_index(path: Path) -> pd.DataFrame:
    spots = pd.read_csv(
        path,
        dtype={"barcode": str, "slide": str, "patient": str},
        keep_default_na=False,
        na_values={"array_row": [""], "array_col": [""]},
        float_precision="round_trip",
    )
    return spots.drop(columns=[name for name in ("array_row", "array_col") if spots[name].isna().all()])


def _mapped_csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A CSR matrix over memory-mapped parts; nothing is copied but `indptr`."""
    matrix = sparse.csr_matrix((data, indices, indptr.astype(indices.dtype)), shape=shape, copy=False)
    matrix.has_sorted_indices = True  # the import sorts; checking would read everything
    matrix.has_canonical_format = True
    return matrix


def _silent(what: str, done: int, total: int) -> None:
    return None


__all__ = ["BUILTIN", "NONE", "Dataset", "load", "open_dataset"]
