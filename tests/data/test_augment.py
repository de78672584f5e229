"""The eight pictures of a patch, against NumPy's own turns and flips."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agl.data.augment import dihedral, none, turned
from agl.data.batches import Batch
from agl.errors import UserError
from agl.training.parallel import Ranks

PATCH = np.random.default_rng(0).integers(0, 256, size=(5, 5, 3), dtype=np.uint8)

# Bit 4 swaps rows and columns, then 2 mirrors top and bottom, then 1 left and right.
WITNESSES = {
    0: lambda patch: patch,
    1: np.fliplr,
    2: np.flipud,
    3: lambda patch: np.rot90(patch, 2),
    4: lambda patch: patch.transpose(1, 0, 2),
    5: lambda patch: np.rot90(patch, -1),
    6: np.rot90,
    7: lambda patch: np.rot90(patch, 2).transpose(1, 0, 2),
}


def batch_of(n: int, inputs: torch.Tensor | None = None) -> Batch:
    patches = torch.from_numpy(np.random.default_rng(1).integers(0, 256, size=(n, 6, 6, 3), dtype=np.uint8))
    counts = torch.arange(n * 2.0).reshape(n, 2)
    return Batch(patches if inputs is None else inputs, counts, torch.arange(n * 1.0), torch.arange(n), torch.arange(n))


@pytest.mark.parametrize("element", range(8))
def test_each_element_is_numpys(element: int) -> None:
    found = turned(torch.from_numpy(PATCH)[None], torch.tensor([element]))[0].numpy()
    assert found.dtype == np.uint8
    assert np.array_equal(found, WITNESSES[element](PATCH))


def test_each_patch_has_its_own_element() -> None:
    patches = torch.from_numpy(np.stack([PATCH] * 8))
    found = turned(patches, torch.arange(8)).numpy()
    assert all(np.array_equal(found[element], WITNESSES[element](PATCH)) for element in range(8))
    assert len({picture.tobytes() for picture in found}) == 8
    assert np.array_equal(patches.numpy(), np.stack([PATCH] * 8))  # what came in is as it was


def test_all_elements_occur_equally_often() -> None:
    n = 4000
    patches = torch.from_numpy(PATCH).expand(n, -1, -1, -1)
    found = dihedral(batch_of(n, patches), np.random.default_rng(5)).inputs.numpy()
    pictures = {WITNESSES[element](PATCH).tobytes(): element for element in range(8)}
    counted = np.bincount([pictures[picture.tobytes()] for picture in found], minlength=8)
    assert (np.abs(counted - n / 8) < 5 * np.sqrt(n / 8)).all()


def test_only_the_pictures_change() -> None:
    batch = batch_of(30)
    found = dihedral(batch, np.random.default_rng(0))
    assert not torch.equal(found.inputs, batch.inputs)
    assert all(after is before for after, before in zip(found[1:], batch[1:], strict=True))


def test_the_same_draws_give_the_same_pictures_and_others_others() -> None:
    pictures = [dihedral(batch_of(30), np.random.default_rng(seed)).inputs for seed in (0, 0, 1)]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_that_share_a_batch_see_its_pictures(processes: int) -> None:
    whole, rng = batch_of(11), np.random.default_rng(2)
    expected = [dihedral(whole, rng).inputs for _ in range(2)]  # two batches: the draws go on alike
    shares = []
    for rank in range(processes):
        held, own = Ranks(rank, processes).share(11), np.random.default_rng(2)
        part = whole._replace(inputs=whole.inputs[held])
        shares.append([dihedral(part, own, held).inputs for _ in range(2)])
    for turn in range(2):
        assert torch.equal(torch.cat([share[turn] for share in shares]), expected[turn])


def test_none_draws_nothing_and_changes_nothing() -> None:
    batch, rng = batch_of(4), np.random.default_rng(0)
    assert none(batch, rng) is batch
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("shape", [(4, 7), (4, 6, 5, 3), (4, 9, 3)])
def test_what_is_no_square_patch_is_refused(shape: tuple[int, ...]) -> None:
    batch = batch_of(4, torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"Expected square patches .* received inputs of shape \[4, "):
        dihedral(batch, np.random.default_rng(0))
