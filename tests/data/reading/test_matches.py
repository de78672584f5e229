"""Few matches: refused below half of the spots, with the way out; row numbers are no barcodes."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from agl.config import load
from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.barcodes import are_row_numbers, probable_cause
from agl.data.reading.join import Rows, Spots, join
from agl.errors import UserError
from agl.training.loading import load_data

NAMES = np.array([f"{''.join(np.random.default_rng(i).choice(list('ACGT'), 16))}-1" for i in range(40)], dtype=object)
XY = np.column_stack(np.divmod(np.arange(40), 8)).astype(float) * 100


def rows(names, corners=None):
    return Rows("f.h5", np.array(names, dtype=object), corners, None if corners is None else 50.0)


def joined(theirs, *, mine=NAMES, corners=None, on_tissue=None, min_matched=0.5):
    spots = Spots("S", np.array(mine, dtype=object), XY[: len(mine)], on_tissue=on_tissue)
    return join(spots, rows(theirs, corners), min_matched=min_matched)


@pytest.mark.parametrize(
    ("rewrite", "words"),
    [
        (lambda s: s[:-2], "without endings such as '-1' in the slide and none in the file"),
        (lambda s: s + "-0", "without endings such as '-1' in the slide and '-1-0' in the file"),
        (lambda s: s[:-1] + "2", "without endings such as '-1' in the slide and '-2' in the file"),
        (lambda s: s.replace("-", "."), "without endings such as '-1' in the slide and '.1' in the file"),
        (lambda s: f"slide_{s}", "without the file's prefix 'slide_'"),
        (lambda s: f"{s}_S7", "without the file's suffix '_S7'"),
        (
            lambda s: f"slide_{s[:-2]}",
            "without the file's prefix 'slide_' and without endings such as '-1' in the slide",
        ),
        (lambda s: f"b'{s}'", "without the b'...' around the file's, which are bytes written as text"),
        (str.lower, "in one letter case"),
    ],
)
def test_known_differences_are_named(rewrite, words):
    rewritten = [rewrite(name) for name in NAMES]
    for theirs, mine in ((rewritten, NAMES), (NAMES, rewritten)):
        if mine is not NAMES and "file" in words:
            continue  # the other way round has other words
        with pytest.raises(UserError) as caught:
            joined(theirs, mine=mine)
        assert f"none of 40 matches: 40 of 40 would match {words}" in str(caught.value)
        assert str(caught.value).endswith("; write them alike.")
        assert f"'{mine[0]}'" in str(caught.value)
        assert f"'{theirs[0]}'" in str(caught.value)


def test_prefixes_and_endings_of_the_slide():
    with pytest.raises(UserError, match="without the slide's prefix 'S_'"):
        joined(NAMES, mine=[f"S_{name}" for name in NAMES])
    with pytest.raises(UserError, match="without endings such as '-1-0' in the slide and '-1' in the file"):
        joined(NAMES, mine=[f"{name}-0" for name in NAMES])
    assert probable_cause(np.array(["10x12", "9x4"]), np.array(["10_12", "9_4"])) is None
    assert probable_cause(np.array(["a-1", "b-2"]), np.array(["c-1", "d-2"])) is None


def test_below_half_is_an_error_and_above_it_none():
    theirs = [name if i < 19 else name + "x" for i, name in enumerate(NAMES)]
    with pytest.raises(
        UserError,
        match=r"received '\w+-1x'; only 19 of 40 match \(48 %, expected at least 50 %\): is it another slide's ",
    ):
        joined(theirs)
    assert joined(theirs, min_matched=0.4).matched == 19
    assert joined([*theirs[:19], NAMES[19], *theirs[20:]]).matched == 20
    with pytest.raises(
        UserError, match=r"it has no more rows; extract features for the other spots too, or lower data.min_m"
    ):
        joined(NAMES[:3])
    with pytest.raises(UserError, match="none of 40 matches: is it another slide's file"):
        joined(["x"], min_matched=0.0)


def test_only_spots_on_tissue_need_features():
    on_tissue = np.arange(40) < 10
    assert joined(NAMES[:10], on_tissue=on_tissue).matched == 10
    with pytest.raises(UserError, match=r"only 4 of 10 on tissue match \(40 %"):
        joined(NAMES[:4], on_tissue=on_tissue)
    assert joined(NAMES, on_tissue=np.zeros(40, dtype=bool)).matched == 40


@pytest.mark.parametrize("numbers", [range(40), range(1, 41), [f"{i}.0" for i in range(40)], range(39, -1, -1)])
def test_row_numbers_are_no_barcodes(numbers):
    names = [str(i) for i in numbers]
    with pytest.raises(
        UserError, match=r"received row numbers \(such as '[\d.]+'\), which do not say whose rows they are"
    ):
        joined(names, mine=names)
    with pytest.raises(UserError, match="received row numbers"):
        joined(names)
    with pytest.raises(UserError, match=r"in obs of slide 'S' .* set adata\.obs_names to the barcodes"):
        joined(names[3:30], mine=names)


def test_row_numbers_that_places_confirm():
    names = [str(i) for i in range(40)]
    assert joined(names, mine=names, corners=XY - 25).matched == 40
    with pytest.raises(UserError, match="received row numbers"):
        joined(names, mine=names, corners=XY[::-1] - 25)


def test_numbers_that_number_no_rows():
    assert not are_row_numbers(np.array(["0", "1"]))
    names = [str(7 * i) for i in range(40)]
    assert joined(names, mine=names).matched == 40


def test_tiles_that_were_not_cut_at_the_spots():
    y, x = np.mgrid[0:5, 0:8]
    spots = Spots("S", NAMES, XY)
    tiles = np.column_stack([y.ravel(), x.ravel()]) * 140.0
    with pytest.raises(
        UserError, match=r"\d of 40 spots have one .*: is it a grid of tiles that was not cut at the spots\?"
    ):
        join(spots, Rows("f.h5", None, tiles - 25, 50.0), min_matched=0.5)
    assert 0 < join(spots, Rows("f.h5", None, tiles - 25, 50.0), min_matched=0.01).matched < 20


def test_from_the_config_and_for_the_doctor(task, write_embeddings):
    root, slides = task()
    write_embeddings(root / "embeddings/uni/S1.h5", slides[0], spots=[1, 5, 6])
    config = load([f"data.root={root}", "data.features=uni", "data.min_counts=0"])
    with pytest.raises(UserError, match=r"only 3 of 12 match \(25 %") as caught:
        load_data(config)
    assert str(caught.value) in [f.message for f in check(root, features="uni").findings if f.level == "error"]
    allowed = load_data(config.with_("data.min_matched=0.25"))
    assert len(allowed) == 12
    with pytest.raises(UserError, match="only 3 of 12"):  # the cache of a lower share is not this one's
        open_dataset(root, features="uni", cache_dir=allowed.folder.parents[1])
    assert check(root, features="uni", min_matched=0.25).status == "warning"


def test_patches_beside_feature_files_are_a_bonus(task, write_patches):
    root, slides = task()
    write_patches(root / "patches/S1.h5", slides[0], order=np.array([2]))
    assert "S1: 11 of 12 spots have no patches." in open_dataset(root, features="uni").report["warnings"]
    assert check(root, features="uni").status == "warning"
    with pytest.raises(UserError, match="only 1 of 12"):
        open_dataset(root, features="none")


def test_spots_off_tissue_in_a_file(task):
    root, _ = task()
    adata = anndata.read_h5ad(root / "adata/S1.h5ad")
    adata.obs["in_tissue"] = [1, 0] * 6
    adata.write_h5ad(root / "adata/S1.h5ad")
    from agl.data.reading.h5ad import read_header

    assert read_header("S1", root / "adata/S1.h5ad").spots.on_tissue.tolist() == [True, False] * 6
