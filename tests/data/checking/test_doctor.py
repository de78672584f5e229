"""The doctor on healthy, doubtful and broken folders; that it names every error is tested in test_bad_input.py."""

from __future__ import annotations

import io
import json
import os

import h5py
import numpy as np
import pytest
from rich.console import Console
from scipy import sparse

from agl.data.checking.doctor import check
from agl.data.checking.reach import thinned
from agl.data.dataset import open_dataset


def messages(report, level):
    return [f"{f.slide}: {f.message}" if f.slide else f.message for f in report.findings if f.level == level]


def screen(report, width=140):
    stream = io.StringIO()
    report.render(Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def test_healthy_folder(task, make_slide):
    genes = [f"GENE{i}" for i in range(60)]
    slides = [make_slide(f"S{i}", n_spots=n, patient=p, genes=genes) for i, n, p in ((1, 40, "A"), (2, 30, "B"))]
    for slide in slides:
        slide.counts *= 8
    root, _ = task(slides)
    report = check(root, features="uni")
    assert (report.status, report.layout, report.patients) == ("ok", "HEST-bench task", ["A", "B"])
    assert (report.spots, report.genes_overlap, report.genes_union) == (70, 60, 60)
    first = report.sections[0]
    totals = slides[0].counts.sum(axis=1)
    assert (first.counts_min, first.counts_median, first.counts_max) == (totals.min(), np.median(totals), totals.max())
    assert first.features["matched_spots"] == first.patches["matched_spots"] == 40
    assert report.will_use["features"] == "HEST-bench embeddings, 4 numbers a spot, joined by barcode"
    text = screen(report)
    assert "Nothing wrong was found." in text
    assert "40/40" in text
    assert len(text.splitlines()) < 20


def test_it_writes_nothing(task, private_cache):
    root, _ = task()
    before = sorted(root.rglob("*"))
    check(root)
    assert sorted(root.rglob("*")) == before
    assert not private_cache.exists()


def test_doubts(task, make_slide, write_embeddings):
    lonely = make_slide("lonely", n_spots=2, patient=None)
    shallow = make_slide("shallow", n_spots=12)
    shallow.counts[4] = 0
    shallow.xy[1] = shallow.xy[0]
    copied = make_slide("twin", n_spots=12)
    copied.counts = shallow.counts.copy()
    root, _ = task([lonely, shallow, copied])
    write_embeddings(root / "embeddings/uni/twin.h5", copied, spots=range(9))
    (root / "splits").mkdir()
    (root / "splits" / "test_0.csv").write_text("sample_id,patches_path,expr_path\nlonely,a,b\nold_name,a,b\n")
    (root / "splits" / "train_0.csv").write_text("wrong,header\n")
    (root / "var_50genes.json").write_text(json.dumps({"genes": ["ERBB2", "NOT_THERE"]}))
    report = check(root, features="uni")
    warnings = messages(report, "warning")
    assert report.status == "warning"
    for expected in (
        "lonely: No patient known, counts as its own; add obs['patient'] or sections.csv.",
        "lonely: Only 2 spots: correlations are undefined; leave it out.",
        "shallow: 1 spots without any count; min_counts=1 drops them.",
        "shallow: 1 spots lie exactly on another; check obsm['spatial'].",
        "Sections 'shallow' and 'twin' have the same counts in 8 of 8 spots: one section twice; leave one of them out.",
        "twin: 3 of 12 spots have no features and are left out.",
        "splits/test_0.csv lists 'old_name', which has no section.",
        "var_50genes.json: 1 genes not in all sections, e.g. NOT_THERE.",
    ):
        assert expected in warnings, warnings
    assert any("sample_id" in w for w in warnings)
    text = screen(report)
    assert "obs['patient']" in text  # not swallowed as markup
    assert "lonely (?)" in text
    assert "This data can be used; look at the warnings." in text
    open_dataset(root, features="uni")  # it can indeed


def test_several_errors_at_once_are_all_found(task, write_h5ad, write_embeddings):
    root, slides = task()
    slides[0].counts[0, 0] = -1
    write_h5ad(root / "adata/S1.h5ad", slides[0], layer=slides[0].counts)
    slides[0].features[3] = np.nan
    write_embeddings(root / "embeddings/uni/S1.h5", slides[0])
    os.truncate(root / "patches/S1.h5", 900)
    os.truncate(root / "adata/S2.h5ad", 900)
    (root / "sections.csv").write_text("section,patient\nS7,P1\n")
    errors = messages(check(root, features="uni"), "error")
    for part in (
        "received -1 for gene",
        "has NaN or infinite values",
        "patches/S1.h5 is trunc",
        "S2.h5ad is trunc",
        "'S7'",
    ):
        assert any(part in e for e in errors), (part, errors)
    assert [f.level for f in check(root, features="uni").findings] == sorted(
        [f.level for f in check(root, features="uni").findings], key=["error", "warning", "note"].index
    )


def test_nan_features_of_rows_without_spot_do_no_harm(task):
    root, slides = task()
    with h5py.File(root / "embeddings/uni/S1.h5", "w") as h5:
        h5["embeddings"] = np.concatenate([slides[0].features, np.full((1, 4), np.nan, np.float32)])
        h5["barcodes"] = [*slides[0].barcodes, "not-a-spot"]
    assert messages(check(root, features="uni"), "error") == []
    dataset = open_dataset(root, features="uni")
    assert dataset.report["sections"]["S1"]["features"]["unused_rows"] == 1
    assert np.isfinite(dataset.features).all()


@pytest.mark.parametrize("seed", range(8))
def test_survives_interrupted_downloads(task, seed):
    """Each file cut anywhere: a report that names it, never an exception."""
    root, _ = task()
    rng = np.random.default_rng(seed)
    files = sorted(root.rglob("*.h5*"))
    cut = [path for path in files if rng.random() < 0.5] or files[:1]
    for path in cut:
        os.truncate(path, int(rng.integers(0, path.stat().st_size)))
    report = check(root, features="uni")
    errors = " ".join(messages(report, "error"))
    for path in cut:
        blocked = path.parent.name != "adata" and root / "adata" / f"{path.stem}.h5ad" in cut  # needs its spots
        assert blocked or str(path) in errors
    json.dumps(report.to_dict(), allow_nan=False)
    screen(report)


def test_auto_features(task, tmp_path, make_slide, write_h5ad):
    root, _ = task([make_slide("S1", patch=16), make_slide("S2", patch=16)])
    assert check(root).will_use["features"] == "built in, computed from patches of 16 x 16 px"
    write_h5ad(tmp_path / "bare" / "S1.h5ad", make_slide("S1"))
    report = check(tmp_path / "bare")
    assert report.will_use["features"] == "none"
    assert report.status == "error"
    assert messages(report, "error") == [
        "Expected patches or features to learn from, found neither; cut patches/<slide>.h5, or name a folder of "
        "feature files (agl check --features FOLDER, agl train data.features=FOLDER)."
    ]


def test_real_sections_are_healthy(her2st):
    report = check(her2st, features="none")
    assert report.status == "ok"
    assert [s.spots for s in report.sections] == [346, 283, 187, 180, 181]
    assert [s.counts_median for s in report.sections] == [4291.0, 648.0, 8508.0, 9549.0, 10015.0]  # its README
    assert report.genes_overlap == 13588
    assert len(screen(report).splitlines()) <= 24  # a terminal


def test_it_says_how_far_scores_can_go(task, make_slide):
    """Deeper counts of the same tissue reach farther; a section without counts worth it says nothing."""
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(size=(200, 1)) @ rng.normal(size=(1, 6)))
    slides = [make_slide(name, n_spots=200, patient=name) for name in ("S1", "S2")]
    for slide, depth in zip(slides, (0.5, 50.0), strict=True):
        slide.counts = rng.poisson(depth * rate)
    root, _ = task(slides)
    report = check(root, features="none")
    shallow, deep = (section.ceiling for section in report.sections)
    assert 0 < shallow < deep <= 1
    assert f"S1 {shallow:.2f}, S2 {deep:.2f}" in screen(report)
    again = check(root, features="none")
    assert again.to_dict() == report.to_dict()


def test_large_sections_are_thinned_evenly():
    whole = sparse.csr_matrix(np.arange(1, 12_002)[:, None])
    blocks = [(start, whole[start : start + 700]) for start in range(0, 12_001, 700)]
    assert thinned(blocks, 12_001).toarray().ravel().tolist() == list(range(1, 12_002, 3))
