"""Ways to change a folder of four sections, and whether it can be used then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest

GENES = [f"GENE{i}" for i in range(70)]
USABLE, REFUSED = True, False
CASES: dict[str, tuple[Callable[..., Any], bool, str]] = {}


@dataclass
class Tools:
    """A folder of four sections to change: their slides, and how to write them again."""

    root: Path
    slides: list[Any]
    h5ad: Callable[..., Path]
    patches: Callable[..., Path]
    embeddings: Callable[..., Path]

    def write(self, *slides: Any) -> None:
        for slide in slides:
            self.h5ad(self.root / "adata" / f"{slide.name}.h5ad", slide)
            self.patches(self.root / "patches" / f"{slide.name}.h5", slide)
            self.embeddings(self.root / "embeddings" / "uni" / f"{slide.name}.h5", slide)

    def cut(self, slide: Any, spots: Any) -> None:
        """Only these spots are left of a slide."""
        slide.counts, slide.xy = slide.counts[spots], slide.xy[spots]
        slide.features, slide.images = slide.features[spots], slide.images[spots]
        slide.barcodes = [slide.barcodes[i] for i in np.arange(36)[spots]]
        self.write(slide)

    def obs(self, slide: Any, column: str, values: Any) -> None:
        path = self.root / "adata" / f"{slide.name}.h5ad"
        section = anndata.read_h5ad(path)
        section.obs[column] = values
        section.write_h5ad(path)


@pytest.fixture
def tools(task, make_slide, write_h5ad, write_patches, write_embeddings) -> Tools:
    slides = [make_slide(f"S{i}", n_spots=36, genes=GENES, patient=f"P{i}", patch=16) for i in range(4)]
    for slide in slides:
        slide.counts += np.random.default_rng([1, *slide.name.encode()]).poisson(3, slide.counts.shape)
    root, _ = task(slides)
    return Tools(root, slides, write_h5ad, write_patches, write_embeddings)


def case(usable: bool, features: str = "uni") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a way to change the folder, and whether it can be used then. "auto": what check finds by itself."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        CASES[change.__name__] = (change, usable, features)
        return change

    return register


@case(USABLE)
def a_section_in_another_format_beside_them(tools: Tools) -> None:
    """Left out, which is said; what was made into one of the sections is not."""
    for name in ("T9", "S0"):
        (tools.root / "adata" / f"{name}.zarr").mkdir()
        (tools.root / "adata" / f"{name}.zarr" / ".zgroup").write_text("{}")


@case(USABLE)
def nothing_changed(tools: Tools) -> None:
    pass


@case(USABLE, "auto")
def features_built_in(tools: Tools) -> None:
    pass


@case(USABLE, "none")
def patches_alone(tools: Tools) -> None:
    shutil.rmtree(tools.root / "embeddings")


@case(REFUSED, "auto")
def h5ad_alone(tools: Tools) -> None:
    shutil.rmtree(tools.root / "embeddings")
    shutil.rmtree(tools.root / "patches")


@case(REFUSED, "none")
def h5ad_alone_and_no_features_asked_for(tools: Tools) -> None:
    shutil.rmtree(tools.root / "patches")


@case(REFUSED, "none")
def patches_of_all_but_one_and_no_features_asked_for(tools: Tools) -> None:
    (tools.root / "patches" / "S2.h5").unlink()


@case(REFUSED, "auto")
def patches_of_all_but_one(tools: Tools) -> None:
    (tools.root / "patches" / "S1.h5").unlink()


@case(USABLE)
def feature_files_and_no_patches(tools: Tools) -> None:
    shutil.rmtree(tools.root / "patches")


@case(REFUSED)
def features_of_all_but_one(tools: Tools) -> None:
    (tools.root / "embeddings/uni/S1.h5").unlink()


@case(USABLE)
def one_patient(tools: Tools) -> None:
    for slide in tools.slides:
        tools.obs(slide, "patient", "P")


@case(USABLE)
def one_slide(tools: Tools) -> None:
    for slide in tools.slides[1:]:
        (tools.root / "adata" / f"{slide.name}.h5ad").unlink()


@case(USABLE)
def no_patient_known(tools: Tools) -> None:
    for slide in tools.slides:
        slide.patient = None
        tools.write(slide)


@case(USABLE)
def patients_that_look_alike(tools: Tools) -> None:
    tools.obs(tools.slides[0], "patient", "p1")


@case(REFUSED)
def a_patient_in_dispute(tools: Tools) -> None:
    (tools.root / "sections.csv").write_text("section,patient\nS0,P0\nS1,Q\n")


@case(USABLE)
def spots_beside_the_tissue(tools: Tools) -> None:
    tools.obs(tools.slides[0], "in_tissue", (np.arange(36) % 4 > 0).astype(int))


@case(USABLE)
def two_spots_at_one_place(tools: Tools) -> None:
    tools.slides[2].xy[3] = tools.slides[2].xy[4]
    tools.write(tools.slides[2])


@case(REFUSED)
def all_spots_at_one_place(tools: Tools) -> None:
    tools.slides[2].xy[:] = 1000.0
    tools.write(tools.slides[2])


@case(USABLE)
def two_spots_in_a_slide(tools: Tools) -> None:
    tools.cut(tools.slides[1], slice(2))


@case(REFUSED)
def one_spot_in_a_slide(tools: Tools) -> None:
    tools.cut(tools.slides[1], slice(1))


@case(USABLE)
def spots_without_counts(tools: Tools) -> None:
    tools.slides[1].counts[:5] = 0
    tools.write(tools.slides[1])


@case(REFUSED)
def a_slide_without_counts(tools: Tools) -> None:
    tools.slides[1].counts[:] = 0
    tools.write(tools.slides[1])


@case(USABLE)
def a_few_counts_a_spot(tools: Tools) -> None:
    for slide in tools.slides:
        slide.counts = np.random.default_rng([3, *slide.name.encode()]).poisson(0.4, slide.counts.shape)
        slide.counts[:, 0] += 1
        tools.write(slide)


@case(USABLE)
def fewer_genes_than_are_scored(tools: Tools) -> None:
    for slide in tools.slides:
        slide.genes, slide.counts = slide.genes[:12], slide.counts[:, :12]
        tools.write(slide)


@case(REFUSED)
def genes_that_hardly_any_spot_has(tools: Tools) -> None:
    for slide in tools.slides:
        slide.counts[:] = np.eye(36, len(GENES), dtype=int)
        tools.write(slide)


@case(USABLE)
def a_slide_with_other_genes_beside(tools: Tools) -> None:
    tools.slides[0].genes = [f"OTHER{i}" if i < 45 else name for i, name in enumerate(GENES)]
    tools.write(tools.slides[0])


@case(USABLE)
def a_few_spots_without_features(tools: Tools) -> None:
    tools.embeddings(tools.root / "embeddings/uni/S0.h5", tools.slides[0], spots=range(30))


@case(REFUSED)
def features_that_are_not_finite(tools: Tools) -> None:
    tools.slides[0].features[3, 0] = np.nan
    tools.write(tools.slides[0])


@case(REFUSED)
def features_that_vary_nowhere(tools: Tools) -> None:
    for i, slide in enumerate(tools.slides):
        slide.features[:] = i
        tools.write(slide)


@case(USABLE)
def features_of_a_slide_that_do_not_vary(tools: Tools) -> None:
    tools.slides[0].features[:] = 0
    tools.write(tools.slides[0])


@case(REFUSED)
def features_of_another_width(tools: Tools) -> None:
    tools.slides[0].features = tools.slides[0].features[:, :3]
    tools.write(tools.slides[0])


@case(REFUSED)
def a_truncated_section(tools: Tools) -> None:
    path = tools.root / "adata" / "S1.h5ad"
    path.write_bytes(path.read_bytes()[:3000])


def _copy(tools: Tools, patient: str) -> None:
    slide = tools.slides[0]
    slide.name, slide.patient = "copy", patient
    slide.barcodes = [f"new{i}" for i in range(36)]
    tools.cut(slide, np.random.default_rng(0).permutation(36)[:33])


@case(REFUSED)
def a_section_twice_of_two_patients(tools: Tools) -> None:
    _copy(tools, "P9")


@case(USABLE)
def a_section_twice_of_one_patient(tools: Tools) -> None:
    _copy(tools, "P0")


@case(REFUSED)
def repeated_barcodes(tools: Tools) -> None:
    tools.slides[0].barcodes[3] = tools.slides[0].barcodes[5]
    tools.h5ad(tools.root / "adata" / "S0.h5ad", tools.slides[0])


@case(REFUSED, "auto")
def a_damaged_patch_file(tools: Tools) -> None:
    with h5py.File(tools.root / "patches" / "S3.h5", "a") as h5:
        del h5["img"]
