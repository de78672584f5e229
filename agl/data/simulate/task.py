"""Simulated sections with a known answer: which genes help, which do nothing, which do harm.

Smooth programmes run through each slide's tissue. They shape the picture (H&E-like patches, or directly a feature
vector) and the log-rates of the genes; counts are negative binomial with a scale and an offset per slide and gene.
Primary genes are noisy readings of the target programmes; useful auxiliary genes read the same programmes cleanly.
Everything drawn is written beside the data as ground truth, in the layout of real data, so there is one reader.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from agl.data.simulate.counts import PlantedGenes, draw_counts, plant_genes
from agl.data.simulate.files import PITCH, SimulatedSection, write_section, write_task
from agl.data.simulate.settings import SimulationSettings, settings_of
from agl.errors import DataError
from agl.leftovers import sweep, temporary

# Every kind of draw has its own stream, so that asking for more of one thing leaves the others as they were.
_GENES, _TISSUE, _COUNTS, _IMAGE_MIXING, _STAINING, _PATCHES, _FEATURE_MIXING, _FEATURE_NOISE = range(8)

MOST_SLIDES = 10_000


def simulate(
    out: str | Path,
    *,
    preset: str = "standard",
    n_patients: int = 4,
    slides_per_patient: int = 1,
    spots_per_slide: int = 150,
    n_genes: int = 600,
    n_primary: int = 50,
    patch_size: int = 64,
    features: str = "patches",
    nonlinear: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write a simulated task to the folder `out` and return it.

    `preset` is "standard", "easy" (clean primaries, many useful genes), "hard" (few useful genes, noisier counts) or
    "misleading" (useless genes have the highest mean and dispersion, and slide batch effects make them look
    co-expressed with the primaries when slides are pooled). `features` is "patches" (pictures, for `agl features`)
    or "latent" (no pictures; `embeddings/latent/` holds a noisy nonlinear mixture of the visible programmes).
    `nonlinear` is the share of what genes follow that is a product of two programmes instead of one programme.

    The same arguments and library versions give the same content: all files but the `.h5ad` to the byte, and the
    `.h5ad` too unless the HDF5 or anndata version differs. The folder appears only when complete.

    Raises UserError when an argument is out of range, or `out` holds files already (`overwrite=True` replaces a
    folder, but only one that holds an earlier simulation).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = simulate(f"{folder}/task", spots_per_slide=12, n_genes=80, features="latent", seed=1)
    ...     sorted(path.name for path in root.iterdir())
    ['adata', 'embeddings', 'oracle_genes.json', 'splits', 'truth', 'truth.csv', 'truth.json', 'var_50genes.json']
    """
    settings = settings_of(preset)
    arguments = {
        "preset": preset,
        "n_patients": n_patients,
        "slides_per_patient": slides_per_patient,
        "spots_per_slide": spots_per_slide,
        "n_genes": n_genes,
        "n_primary": n_primary,
        "patch_size": patch_size,
        "features": features,
        "nonlinear": nonlinear,
        "seed": seed,
    }
    _check(n_patients, slides_per_patient, spots_per_slide, n_genes, n_primary, patch_size, features, seed)
    if not isinstance(nonlinear, int | float) or isinstance(nonlinear, bool) or not 0 <= nonlinear <= 1:
        raise DataError(f"Expected nonlinear as a share from 0 to 1, received {nonlinear!r}.")
    target = Path(out)
    _check_target(target, overwrite)

    genes = plant_genes(settings, n_genes, n_primary, np.random.default_rng([seed, _GENES]))
    sweep(target.parent, f".{target.name}.*")
    part = temporary(target)
    part.mkdir(parents=True)
    try:
        sections = []
        for patient in range(n_patients):
            for slide in range(slides_per_patient):
                section = draw_section(
                    settings,
                    genes,
                    patient=patient,
                    slide=slide,
                    n_spots=spots_per_slide,
                    features=features,
                    nonlinear=nonlinear,
                    side=patch_size,
                    seed=seed,
                )
                write_section(part, section, genes, patch_size)
                sections.append((section.name, section.patient))
        write_task(part, sections, genes, arguments | {"settings": asdict(settings)})
        _move_into_place(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def draw_section(
    settings: SimulationSettings,
    genes: PlantedGenes,
    *,
    patient: int,
    slide: int,
    n_spots: int,
    features: str,
    side: int,
    seed: int,
    nonlinear: float = 0.0,
) -> SimulatedSection:
    """One slide, in memory. It depends on its own numbers and the seed only, not on how many others there are."""
    from agl.data.simulate.tissue import bent, latent_features, lattice, programmes

    def stream(kind: int) -> np.random.Generator:
        return np.random.default_rng([seed, kind, patient, slide])

    tissue = stream(_TISSUE)
    places = lattice(n_spots, tissue)
    activity = programmes(places, settings, tissue)
    visible = activity[:, : settings.target_programmes + settings.other_programmes]
    if nonlinear:
        activity = bent(activity, settings, nonlinear)
    counts, rates, draws = draw_counts(genes, activity, settings, stream(_COUNTS))
    patches = embedding = None
    if features == "patches":
        from agl.data.simulate.images import draw_patches, draw_staining, properties

        make_up = properties(visible, np.random.default_rng([seed, _IMAGE_MIXING]))
        staining = draw_staining(settings.stain_variation, stream(_STAINING))
        patches = draw_patches(make_up, staining, side, stream(_PATCHES))
    else:
        mixing = np.random.default_rng([seed, _FEATURE_MIXING])
        embedding = latent_features(visible, settings, mixing, stream(_FEATURE_NOISE))
    name = f"P{patient + 1}S{slide + 1}"
    return SimulatedSection(name, f"P{patient + 1}", places, activity, counts, rates, draws, patches, embedding)


def _move_into_place(part: Path, target: Path) -> None:
    """Rename, so that `target` is either the old folder or the whole new one."""
    old = temporary(target, "old")
    if target.exists():
        os.replace(target, old)
    os.replace(part, target)
    shutil.rmtree(old, ignore_errors=True)


def _check(
    n_patients: int,
    slides_per_patient: int,
    spots_per_slide: int,
    n_genes: int,
    n_primary: int,
    patch_size: int,
    features: str,
    seed: int,
) -> None:
    for name, value, least in (
        ("n_patients", n_patients, 1),
        ("slides_per_patient", slides_per_patient, 1),
        ("spots_per_slide", spots_per_slide, 3),
        ("n_primary", n_primary, 1),
        ("n_genes", n_genes, n_primary + 4),
        ("patch_size", patch_size, 16),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DataError(f"Expected {name} to be a whole number of at least {least}, received {value!r}; give one.")
    if n_patients * slides_per_patient > MOST_SLIDES:
        raise DataError(
            f"Expected at most {MOST_SLIDES:,} slides, received {n_patients} patients with {slides_per_patient} each; "
            "take fewer."
        )
    if patch_size > PITCH or patch_size % 2:
        raise DataError(
            f"Expected an even patch_size of at most {PITCH} px (the spot distance), received {patch_size}; give one."
        )
    if features not in ("patches", "latent"):
        raise DataError(f"Expected features to be 'patches' or 'latent', received {features!r}; choose one.")


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise DataError(
            f"Expected {target} to be a new or empty folder, but it holds files; choose another, or overwrite=True."
        )
    if not (target / "truth.json").is_file():
        raise DataError(
            f"Expected {target} to hold an earlier simulation (with truth.json), but it does not, so it is not "
            "overwritten; choose another folder."
        )
