"""Every feature format gives the same matrix in the spots' order, and what cannot be joined is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from agl.data.dataset import open_dataset
from agl.data.geometry import pitch
from agl.data.reading.formats.known import Formats
from agl.data.reading.join import Rows, Spots, join
from agl.errors import UserError

SIZE = 40  # full-resolution px of a patch


@pytest.fixture
def one(task, make_slide):
    root, slides = task([make_slide("S1", n_spots=14)])
    folder = root / "features" / "enc"
    folder.mkdir(parents=True)
    return root, slides[0], folder, np.random.default_rng(9).permutation(14)


def write_tile_features(path, slide, order, key="features", attrs=None, jitter=0.0):
    with h5py.File(path, "w") as h5:
        h5[key] = slide.features[order]
        corners = slide.xy[order] - SIZE / 2 + jitter
        h5["coords"] = np.rint(corners).astype(np.int64)
        h5["coords"].attrs.update(attrs or {})


def expect(root, slide, how, **options):
    dataset = open_dataset(root, features="enc", **options)
    np.testing.assert_array_equal(dataset.features, slide.features)
    assert dataset.report["sections"]["S1"]["features"]["joined_by"].startswith(how)
    return dataset


def test_trident_joins_by_the_centres_of_tiles(one):
    root, slide, folder, order = one
    write_tile_features(folder / "S1.h5", slide, order, attrs={"patch_size": 224, "patch_size_level0": SIZE}, jitter=9)
    expect(root, slide, "coordinates within 25 px")  # a quarter of the 100 px pitch


def test_trident_size_from_its_patches_folder(one):
    root, slide, folder, order = one
    write_tile_features(folder / "S1.h5", slide, order)
    with pytest.raises(UserError, match=r"set the attribute 'patch_size_level0' .* of its 'coords'"):
        open_dataset(root, features="enc")
    (root / "features" / "patches").mkdir()
    write_tile_features(
        root / "features" / "patches" / "S1_patches.h5", slide, order, attrs={"patch_size_level0": SIZE}
    )
    expect(root, slide, "coordinates")


def test_clam_h5_and_pt(one):
    root, slide, folder, order = one
    (folder / "h5_files").mkdir()
    attrs = {"patch_size": SIZE // 4, "patch_level": 1, "downsample": np.array([4.0, 4.0])}
    write_tile_features(folder / "h5_files" / "S1.h5", slide, order, attrs=attrs)
    expect(root, slide, "coordinates")
    (folder / "pt_files").mkdir()
    torch.save(torch.from_numpy(slide.features[order]), folder / "pt_files" / "S1.pt")
    dataset = open_dataset(root, features=str(folder / "pt_files"))
    np.testing.assert_array_equal(dataset.features, slide.features)


def test_strank_h5(one):
    root, slide, folder, order = one
    with h5py.File(folder / "S1.h5", "w") as h5:
        h5["img_feat"] = slide.features[order].astype(np.float64)
        h5["exp"] = slide.counts[order]
        h5["barcode"] = np.array([slide.barcodes[i].encode() for i in order])
    expect(root, slide, "barcode")


@pytest.mark.parametrize("header", [True, False])
def test_npy_with_barcodes_beside_it(one, header):
    root, slide, folder, order = one
    np.save(folder / "S1.npy", slide.features[order])
    lines = ["barcode"] * header + [slide.barcodes[i] for i in order]
    (folder / "S1.barcodes.txt").write_text("\n".join(lines) + "\n")
    expect(root, slide, "barcode")


def test_a_changed_sidecar_is_another_dataset(one):
    root, slide, folder, order = one
    np.save(folder / "S1.npy", slide.features[order])
    sidecar = folder / "S1.barcodes.txt"
    sidecar.write_text("\n".join(slide.barcodes[i] for i in order))
    first = expect(root, slide, "barcode")
    sidecar.write_text("\n".join(slide.barcodes[i] for i in order[::-1]))
    assert open_dataset(root, features="enc").key != first.key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pt_dictionary(one, dtype):
    root, slide, folder, order = one
    values = torch.from_numpy(slide.features[order]).to(dtype)
    torch.save({"embeddings": values, "barcodes": [slide.barcodes[i] for i in order]}, folder / "S1.pt")
    dataset = open_dataset(root, features="enc")
    expected = torch.from_numpy(slide.features).to(dtype).float().numpy()
    np.testing.assert_array_equal(dataset.features.astype(np.float32), expected)
    assert dataset.features.dtype == (np.float16 if dtype == torch.float16 else np.float32)


@pytest.mark.parametrize("suffix", ["npy", "pt"])
def test_positional_files_are_refused_even_when_lengths_agree(one, suffix):
    root, slide, folder, _ = one
    if suffix == "npy":
        np.save(folder / "S1.npy", slide.features)
    else:
        torch.save(torch.from_numpy(slide.features), folder / "S1.pt")
    with pytest.raises(UserError, match=r"never joined by order: .* same name and the ending \.barcodes\.txt"):
        open_dataset(root, features="enc")


def test_pickled_code_is_not_run(one, tmp_path):
    import os
    import pickle

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    root, _, folder, _ = one
    (folder / "S1.pt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(UserError, match=r"save it again with torch\.save\(tensor\)"):
        open_dataset(root, features="enc")
    np.save(folder / "S1.npy", np.array([Attack()], dtype=object), allow_pickle=True)
    (folder / "S1.pt").unlink()
    with pytest.raises(UserError, match=r"save it with numpy\.save"):
        open_dataset(root, features="enc")
    assert not (tmp_path / "hacked").exists()


def test_coordinates_elsewhere_say_how_far(one):
    root, slide, folder, order = one
    write_tile_features(folder / "S1.h5", slide, order, attrs={"patch_size_level0": SIZE}, jitter=5000)
    with pytest.raises(UserError, match=r"within 25 px .* px away; check that both are full-resolution pixels"):
        open_dataset(root, features="enc")


def test_join_by_place_agrees_with_all_pairs():
    rng = np.random.default_rng(2)
    xy, corners = rng.uniform(0, 1000, (200, 2)), rng.uniform(0, 1000, (150, 2))
    match = join(Spots("S", np.array([""] * 200, object), xy), Rows("f", None, corners, 10.0), tolerance=30.0)
    distance = np.linalg.norm(xy[:, None] - (corners + 5.0)[None], axis=2)
    nearest = distance.argmin(axis=1)
    for row in range(150):
        rivals = [s for s in range(200) if nearest[s] == row and distance[s, row] <= 30.0]
        winner = min(rivals, key=lambda s: distance[s, row], default=None)
        assert (match.rows == row).sum() == (winner is not None)
        assert winner is None or match.rows[winner] == row
    assert match.unused_rows == 150 - match.matched


def test_pitch_of_a_visium_lattice():
    rows, columns = np.divmod(np.arange(400), 20)
    xy = np.stack([columns * 100.0 + (rows % 2) * 50.0, rows * 100.0 * np.sqrt(0.75)], axis=1)
    assert pitch(xy) == pytest.approx(100.0)
    assert np.isnan(pitch(xy[:1]))


def test_blocks_of_any_size_are_the_file(one):
    _, slide, folder, order = one
    np.save(folder / "x.npy", slide.features[order])
    write_tile_features(folder / "x.h5", slide, order)
    for path in (folder / "x.npy", folder / "x.h5"):
        for size in (1, 5, 100):
            blocks = list(Formats().open(path).blocks(size))
            np.testing.assert_array_equal(np.concatenate([b for _, b in blocks]), slide.features[order])
            assert [start for start, _ in blocks] == list(range(0, 14, size))


def test_where_feature_files_are_looked_for(task):
    root, slides = task()
    uni = root / "embeddings" / "uni"
    expected = open_dataset(root, features="uni").features
    for spec in (uni, str(uni / "*.h5"), "embeddings/uni/{slide}.h5", "embeddings/uni"):
        np.testing.assert_array_equal(open_dataset(root, features=spec).features, expected)
    (uni / "S1.h5").rename(uni / "S1_uni.h5")
    (uni / "S2.h5").rename(uni / "S2_uni.h5")
    np.testing.assert_array_equal(open_dataset(root, features="embeddings/uni/*_uni.h5").features, expected)
    (root / "features_other").mkdir()
    for slide in slides:
        (uni / f"{slide.name}_uni.h5").rename(root / "features_other" / f"{slide.name}_patches.h5")
    np.testing.assert_array_equal(open_dataset(root, features="other").features, expected)


def test_slide_names_that_start_alike(task, make_slide):
    root, slides = task([make_slide("C2"), make_slide("C2_features", n_spots=8)])
    dataset = open_dataset(root, features="uni")
    np.testing.assert_array_equal(dataset.features, np.concatenate([s.features for s in slides]))


def test_tridents_folders_are_found_by_the_encoders_name(one):
    """`20x_256px_0px_overlap/features_uni_v1` below the job folder, which is the data's or one in it."""
    root, slide, _, order = one
    patches = {"patch_size": 256, "patch_size_level0": SIZE}
    for job in (root, root / "trident"):
        folder = job / "20x_256px_0px_overlap" / "features_uni_v1"
        folder.mkdir(parents=True)
        (folder.parent / "patches").mkdir()
        write_tile_features(folder.parent / "patches" / "S1_patches.h5", slide, order, attrs=patches)
        write_tile_features(folder / "S1.h5", slide, order)
        dataset = open_dataset(root, features="uni_v1")
        np.testing.assert_array_equal(dataset.features, slide.features)
        folder.rename(folder.with_name("features_other"))
    with pytest.raises(UserError, match="received 20x_256px_0px_overlap/features_other and trident/20x_256px_0px_over"):
        open_dataset(root, features="other")
    with pytest.raises(UserError, match=r"found no folder 'othr' .* Did you mean 'other'\?"):
        open_dataset(root, features="othr")
    np.testing.assert_array_equal(
        open_dataset(root, features="trident/20x_256px_0px_overlap/features_other").features, slide.features
    )
