"""open_dataset against what the test itself wrote: spots, genes, counts, library sizes, features, patches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse

from agl.data.dataset import Dataset, open_dataset
from agl.errors import UserError


def assert_is(dataset: Dataset, slides, genes) -> None:
    """Plain loops over spots and genes: the slow witness."""
    assert dataset.genes == tuple(genes)
    assert dataset.slide_names == tuple(s.name for s in slides)
    position = 0
    for code, slide in enumerate(slides):
        for i, barcode in enumerate(slide.barcodes):
            row = dataset.spots.iloc[position]
            assert (row.barcode, row.slide, row.patient) == (barcode, slide.name, slide.patient)
            assert (row.x, row.y) == tuple(slide.xy[i])
            assert dataset.slide_codes[position] == code
            assert dataset.library_size[position] == sum(slide.counts[i])
            for j, gene in enumerate(genes):
                assert dataset.counts[position, j] == slide.counts[i][slide.genes.index(gene)]
            position += 1
    assert position == len(dataset.spots)


def test_reads_what_was_written(task, make_slide):
    wide = make_slide("A", genes=("ERBB2", "ACTB", "ONLY_A", "MKI67"), patient="P2")
    other = make_slide("B", n_spots=7, genes=("MKI67", "ERBB2", "ACTB", "ONLY_B"), patient="P1")
    root, slides = task([wide, other])
    dataset = open_dataset(root, features="uni")
    assert_is(dataset, slides, ["ACTB", "ERBB2", "MKI67"])
    assert dataset.counts.dtype == np.int32
    assert dataset.library_size.dtype == np.int64
    np.testing.assert_array_equal(dataset.features, np.concatenate([s.features for s in slides]))
    positions = np.array([18, 0, 3, 3, 12])
    images = np.concatenate([s.images for s in slides])
    np.testing.assert_array_equal(dataset.patches.read(positions), images[positions])
    assert set(dataset.spots.columns) == {"barcode", "slide", "patient", "x", "y", "array_row", "array_col"}


def test_second_opening_is_the_same_and_imports_nothing(task):
    root, _ = task()
    calls: list[str] = []
    first = open_dataset(root, features="uni", progress=lambda what, done, total: calls.append(what))
    assert calls == ["S1", "S2", ""]
    second = open_dataset(root, features="uni", progress=lambda what, done, total: pytest.fail("imported again"))
    assert first.key == second.key
    assert first.spots.equals(second.spots)
    assert (first.counts != second.counts).nnz == 0
    assert isinstance(second.features, np.memmap)


def test_key_follows_content_not_place_or_time(task, tmp_path):
    import shutil

    root, _ = task()
    key = open_dataset(root, features="uni").key
    copy = shutil.copytree(root, tmp_path / "elsewhere")
    assert open_dataset(copy, features="uni").key == key
    assert open_dataset(root, features="none").key != key
    least = int(open_dataset(root, features="uni").library_size.min())
    assert open_dataset(root, features="uni", min_counts=least).key == key
    assert open_dataset(root, features="uni", min_counts=least + 1).key != key
    assert open_dataset(root, features="uni", sections=["S1"]).key != key
    (copy / "sections.csv").write_text("section,patient\nS1,P1\n")
    assert open_dataset(copy, features="uni").key == key  # it says nothing new


def test_a_changed_file_is_seen(task, make_slide, write_h5ad):
    root, slides = task()
    before = open_dataset(root, features="uni")
    slides[0].counts[2, 3] += 5
    write_h5ad(root / "adata" / "S1.h5ad", slides[0])
    after = open_dataset(root, features="uni")
    assert after.key != before.key
    changed = (after.counts - before.counts).tocoo()
    assert (changed.row.tolist(), changed.data.tolist()) == ([2], [5])


def test_spots_without_features_are_left_out_and_counted(task, write_embeddings):
    root, slides = task()
    write_embeddings(root / "embeddings" / "uni" / "S1.h5", slides[0], spots=[11, 4, 7])
    dataset = open_dataset(root, features="uni", min_matched=0.2)
    kept = dataset.spots[dataset.spots.slide == "S1"].barcode.tolist()
    assert kept == [slides[0].barcodes[i] for i in (4, 7, 11)]
    np.testing.assert_array_equal(dataset.features[:3], slides[0].features[[4, 7, 11]])
    joined = dataset.report["sections"]["S1"]["features"]
    assert (joined["matched_spots"], joined["unmatched_spots"], joined["joined_by"]) == (3, 9, "barcode")
    assert dataset.report["warnings"] == ["S1: 9 of 12 spots have no features and are left out."]


def test_spots_without_patches_are_left_out_when_nothing_else_is_read(task, write_patches):
    root, slides = task()
    write_patches(root / "patches" / "S2.h5", slides[1], order=np.array([8, 2]))
    dataset = open_dataset(root, features="none", min_matched=0.2)
    assert dataset.spots.barcode.tolist()[12:] == [slides[1].barcodes[i] for i in (2, 8)]
    np.testing.assert_array_equal(dataset.patches.read([13]), slides[1].images[[8]])
    assert dataset.features is None
    with_features = open_dataset(root, features="uni")
    assert len(with_features) == 21
    assert not with_features.patches.complete
    with pytest.raises(
        UserError, match=r"spot 12 has none; open the dataset with features=\"none\" to keep only spots"
    ):
        with_features.patches.read([0, 12])


def test_min_counts_uses_all_genes_of_the_slide(task, make_slide):
    slides = [make_slide("A", genes=("X1", "ACTB")), make_slide("B", genes=("ACTB", "X2"))]
    slides[0].counts[:] = 1
    slides[0].counts[5] = (9, 0)  # nothing in the shared gene, 9 in the other
    slides[0].counts[6] = (0, 0)
    slides[1].counts[:] = 3
    root, _ = task(slides)
    dataset = open_dataset(root, features="uni", min_counts=3)
    assert dataset.library_size.tolist() == [9] + [6] * 12
    assert dataset.counts[0].nnz == 0
    everything = open_dataset(root, features="uni")
    assert "A: 1 spots without any count; min_counts=1 drops them." in everything.report["warnings"]


def test_dense_panel_and_subset(task):
    root, slides = task()
    dataset = open_dataset(root, features="uni")
    full = np.concatenate([s.counts for s in slides])[:, [slides[0].genes.index(g) for g in dataset.genes]]
    rows, genes = np.array([20, 0, 20, 5]), np.array([4, 0, 2])
    np.testing.assert_array_equal(dataset.dense_counts(rows, genes), full[np.ix_(rows, genes)])
    np.testing.assert_array_equal(dataset.dense_counts(rows), full[rows])
    panel = dataset.panel_counts(genes)
    assert panel.dtype == np.float32
    np.testing.assert_array_equal(panel.toarray(), full[:, genes])
    with pytest.raises(ValueError, match="received one twice; remove the repeats"):
        dataset.panel_counts([0, 1, 0])
    for spots in (np.array([19, 2, 13]), np.arange(12, 21)):
        part = dataset.subset(spots)
        chosen = np.sort(spots)
        np.testing.assert_array_equal(part.dense_counts(np.arange(len(part))), full[chosen])
        np.testing.assert_array_equal(part.features, dataset.features[chosen])
        np.testing.assert_array_equal(part.patches.read([0, 1]), dataset.patches.read(chosen[:2]))
        assert part.spots.barcode.tolist() == dataset.spots.barcode[chosen].tolist()
        assert part.key != dataset.key
    assert dataset.subset(np.arange(12, 21)).slide_names == ("S2",)


def test_gene_positions_say_what_is_near(task):
    dataset = open_dataset(task()[0], features="none")
    assert dataset.gene_positions(["MKI67", "ACTB"]).tolist() == [
        dataset.genes.index("MKI67"),
        dataset.genes.index("ACTB"),
    ]
    with pytest.raises(UserError, match=r"received 'ERBB3'. Did you mean 'ERBB2'"):
        dataset.gene_positions(["ERBB3"])


def test_patch_order_repeats_and_processes(task):
    """A pickled reader opens its own files; a forked one too."""
    import multiprocessing

    root, slides = task()
    reader = open_dataset(root, features="none").patches
    images = np.concatenate([s.images for s in slides])
    rng = np.random.default_rng(0)
    for _ in range(5):
        spots = rng.integers(0, 21, size=30)
        np.testing.assert_array_equal(reader.read(spots), images[spots])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read([3, 20]), images[[3, 20]])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = pool.map(reader.read, [np.array([i, 20 - i]) for i in range(8)])
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part, images[[i, 20 - i]])


def test_builtin_features_are_the_extractor_on_the_joined_patch(task, make_slide):
    from agl.data.images.builtin import extract

    slides = [make_slide("S1", patch=32), make_slide("S2", n_spots=9, patch=32)]
    root, _ = task(slides)
    dataset = open_dataset(root)
    expected = np.asarray(extract(np.concatenate([s.images for s in slides])))
    assert dataset.features.dtype == np.float32
    np.testing.assert_allclose(dataset.features, expected, rtol=1e-5, atol=1e-6)


def test_slide_names_that_sort_unlike_their_files(task, make_slide):
    """'S1-2.h5ad' sorts before 'S1.h5ad', but 'S1' before 'S1-2': patches and features must follow the slides."""
    root, slides = task([make_slide("S1"), make_slide("S1-2", n_spots=7), make_slide("S1.b", n_spots=5)])
    dataset = open_dataset(root, features="uni")
    assert_is(dataset, slides, sorted(slides[0].genes))
    np.testing.assert_array_equal(dataset.patches.read(range(24)), np.concatenate([s.images for s in slides]))
    np.testing.assert_array_equal(dataset.features, np.concatenate([s.features for s in slides]))
    assert dataset.subset(np.arange(12, 19)).slide_names == ("S1-2",)


def test_float16_is_kept_and_mixed_types_widen(task, write_embeddings):
    root, slides = task()
    for slide in slides:
        write_embeddings(root / "embeddings" / "uni" / f"{slide.name}.h5", slide, values=slide.features.astype("f2"))
    half = open_dataset(root, features="uni")
    assert half.features.dtype == np.float16
    np.testing.assert_array_equal(half.features[:12], slides[0].features.astype(np.float16))
    write_embeddings(root / "embeddings" / "uni" / "S2.h5", slides[1])
    mixed = open_dataset(root, features="uni")
    assert mixed.features.dtype == np.float32
    np.testing.assert_array_equal(mixed.features[12:], slides[1].features)


@pytest.mark.parametrize("layout", ["dense", "csc", "layer", "raw", "int64"])
def test_every_place_and_form_of_counts(layout, tmp_path, make_slide, write_h5ad):
    slide = make_slide("S1", n_spots=10)
    logged = np.log1p(slide.counts).astype(np.float32)
    as_csr = sparse.csr_matrix(slide.counts)
    stored = {
        "dense": {"x": slide.counts.astype(np.float64)},
        "csc": {"x": sparse.csc_matrix(slide.counts)},
        "layer": {"x": sparse.csr_matrix(logged), "layer": as_csr},
        "raw": {"x": sparse.csr_matrix(logged), "raw": as_csr},
        "int64": {"x": as_csr.astype(np.int64)},
    }[layout]
    write_h5ad(tmp_path / "d" / "S1.h5ad", slide, **stored)
    dataset = open_dataset(tmp_path / "d", features="none")
    assert_is(dataset, [slide], sorted(slide.genes))
    source = dataset.report["sections"]["S1"]["counts_source"]
    assert source == {"layer": "layers['counts']", "raw": "raw.X"}.get(layout, "X")


@pytest.mark.parametrize("values_per_block", [1, 7, 40])
def test_blocks_of_any_size_give_the_same(values_per_block, tmp_path, make_slide, write_h5ad):
    from agl.data.reading.counts import count_blocks
    from agl.data.reading.h5ad import read_header

    slide = make_slide("S1", n_spots=11)
    slide.counts[[0, 4, 5, 10]] = 0  # empty spots at the ends and in a row
    for name, x in (("sparse", None), ("dense", slide.counts.astype(np.float32))):
        path = write_h5ad(tmp_path / f"{name}.h5ad", slide, x=x)
        blocks = list(count_blocks(read_header("S1", path), values_per_block))
        assert [start for start, _ in blocks] == np.cumsum([0, *[b.shape[0] for _, b in blocks[:-1]]]).tolist()
        np.testing.assert_array_equal(sparse.vstack([b for _, b in blocks]).toarray(), slide.counts)


def test_real_sections_open_by_barcode(her2st):
    dataset = open_dataset(her2st, features="none")
    assert dataset.slide_names == ("A1", "B4", "C2", "C3", "C5")
    assert dataset.spots.groupby("slide").size().to_dict() == {"A1": 346, "B4": 283, "C2": 187, "C3": 180, "C5": 181}
    assert sorted(dataset.spots.patient.unique()) == ["A", "B", "C"]
    for slide in dataset.report["sections"].values():
        assert slide["patches"]["joined_by"] == "barcode"
        assert slide["patches"]["unmatched_spots"] == 0
    import anndata

    original = anndata.read_h5ad(her2st / "adata" / "C3.h5ad")
    rows = np.flatnonzero(dataset.spots.slide == "C3")
    np.testing.assert_array_equal(dataset.library_size[rows], original.obs["total_counts"])
    np.testing.assert_array_equal(dataset.dense_counts(rows), original[:, list(dataset.genes)].X.toarray())
