"""Feature files for a folder of sections: `patches/<id>.h5` in, `embeddings/<encoder>/<id>.h5` out.

The files have HEST-bench's layout: `embeddings [spot, feature]`, `barcodes [spot, 1]`, `coords [spot, 2]`, in the
order of the patches. Each is written under a temporary name and moved into place when complete, so a file that
exists is a finished one, and a second call continues where the first was stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from agl.data.images.batches import first_size
from agl.data.images.builtin import FEATURE_NAMES, check_patches, extract
from agl.data.reading.patches import stored_images
from agl.errors import DataError
from agl.leftovers import sweep, temporary
from agl.machine import pick_device
from agl.places import regular_file

if TYPE_CHECKING:
    from rich.progress import Progress

# Raised when the numbers of the built-in extractor change, so that older files are made anew.
BUILTIN_VERSION = "builtin-1"


def extract_folder(
    root: str | Path,
    out: str | Path | None = None,
    encoder: str = "builtin",
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    precision: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Write `<out>/<id>.h5` for every `<root>/patches/<id>.h5`, and return `out`.

    `out` is `<root>/embeddings/<encoder>` unless given. `encoder` is "builtin", a name of
    `agl.data.images.encoders.KNOWN_ENCODERS` (with `weights` a local file or folder), or the path of a folder that
    transformers' `save_pretrained` wrote. Sections whose file is there already, made by the same encoder from the
    same patch file, are skipped. `batch_size` patches are worked on at one time (None: as many as usually fit), fewer
    where a GPU's memory runs out; `precision` is that of a named encoder on a GPU: auto (fp16), fp32, fp16 or bf16.
    `progress` gets one task per section, counted in spots.

    Raises UserError when there are no patches, a file is damaged, or a finished feature file that this function
    did not write holds other spots: it is never overwritten.

    >>> import tempfile
    >>> from agl.data.simulate.task import simulate
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = simulate(f"{folder}/task", n_patients=2, slides_per_patient=1, spots_per_slide=9, seed=0)
    ...     sorted(path.name for path in extract_folder(root).iterdir())
    ['P1S1.h5', 'P2S1.h5']
    """
    root = Path(root)
    sources = sorted((root / "patches").glob("*.h5"))
    if not sources:
        raise DataError(f"Expected patches in {root / 'patches'}/<id>.h5, found none; give the task folder.")
    pick_device(device, "--device")
    compute, fingerprint = _encoder(encoder, weights, device, batch_size, precision)
    folder = Path(out) if out is not None else root / "embeddings" / Path(encoder).name
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, ".*")
    for source in sources:
        target = folder / source.name
        regular_file(source, "a file of patches")
        if target.exists():
            regular_file(target, "a file of features to keep or replace")
        try:
            with h5py.File(source, "r") as patches:
                n_spots = len(stored_images(patches))
                told = _teller(progress, source.stem, n_spots)
                if _is_finished(target, source, patches, fingerprint):
                    told(n_spots)
                else:
                    _write(target, source, patches, fingerprint, compute, batch_size, told)
        except (OSError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None and source.is_file():
                raise  # a full disk is not the patches' fault
            raise DataError(
                f"Expected {source} to be a readable HDF5 file with img, barcode and coords, but: {error}; "
                "copy or cut the patches again."
            ) from error
    return folder


def _teller(progress: Progress | None, name: str, total: int) -> Callable[[int], None]:
    """A function that shows how many spots of a section are done."""
    if progress is None:
        return lambda done: None
    task = progress.add_task(name, total=total)
    return lambda done: progress.update(task, completed=done)


def _encoder(
    name: str, weights: str | Path | None, device: str, batch_size: int | None, precision: str
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """A function from patches to features, and a text that changes when its numbers would."""
    if name == "builtin":
        if weights is not None:
            raise DataError(f"Expected no weights for the encoder 'builtin', received {weights}; name an encoder.")
        return lambda images: extract(images, batch_size or first_size(device), device=device), BUILTIN_VERSION
    from agl.data.images.encoders import load_encoder

    model = load_encoder(name, weights=weights, device=device, precision=precision)
    return lambda images: model.extract(images, batch_size), model.fingerprint


def _source_mark(source: Path) -> str:
    status = source.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def _is_finished(target: Path, source: Path, patches: h5py.File, fingerprint: str) -> bool:
    if not target.exists():
        return False
    try:
        with h5py.File(target, "r") as file:
            made_by, made_from = file.attrs.get("agl_encoder"), file.attrs.get("agl_source")
            same_spots = np.array_equal(file["barcodes"][:].ravel(), patches["barcode"][:].ravel())
    except (OSError, KeyError) as error:
        raise DataError(
            f"Expected {target} to be a feature file with embeddings and barcodes, but: {error}; delete it."
        ) from error
    if made_by is None:
        if same_spots:
            return True
        raise DataError(
            f"Expected {target} to hold the spots of {source}, but it holds others and was not made here; "
            "move it away or choose another folder with out=."
        )
    return same_spots and made_by == fingerprint and made_from == _source_mark(source)


def _write(
    target: Path,
    source: Path,
    patches: h5py.File,
    fingerprint: str,
    compute: Callable[[np.ndarray], np.ndarray],
    batch_size: int | None,
    told: Callable[[int], None],
) -> None:
    images = stored_images(patches)
    n_spots = len(images)
    # Read many patches at once: the number in memory stays bounded and HDF5 reads stay long.
    step = max(batch_size or 0, 256)
    part = temporary(target)
    try:
        with h5py.File(part, "w") as file:
            embeddings = None
            for start in range(0, n_spots, step):
                batch = images[start : start + step]
                check_patches(batch)
                features = compute(batch)
                _check_finite(features, source, start)
                if embeddings is None:
                    shape = (n_spots, features.shape[1])
                    embeddings = file.create_dataset("embeddings", shape, dtype=features.dtype)
                embeddings[start : start + len(batch)] = features
                told(start + len(batch))
            if embeddings is None:
                raise DataError(f"Expected at least one patch in {source}, found none; remove the file.")
            file.create_dataset("barcodes", data=patches["barcode"][:].reshape(-1, 1))
            file.create_dataset("coords", data=patches["coords"][:])
            file.attrs["agl_encoder"] = fingerprint
            file.attrs["agl_source"] = _source_mark(source)
            if fingerprint == BUILTIN_VERSION:
                file.attrs["feature_names"] = json.dumps(FEATURE_NAMES)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _check_finite(features: np.ndarray, source: Path, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise DataError(
            f"Expected finite features, but patch {start + int(bad[0])} of {source} gave NaN or infinity; "
            "look at that patch, or run the encoder in float32."
        )
