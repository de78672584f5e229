"""Sparse matrices whose structure is wrong: a sentence, where SciPy would read outside its memory.

Every case runs in the reader of both `agl check` and `agl train`; a crash would end the test session.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy import sparse

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.counts import count_blocks
from agl.data.reading.h5ad import read_header
from agl.data.reading.stored_matrix import StoredMatrix
from agl.errors import UserError

PLACES = {"X": "X", "layers/counts": "layers['counts']", "raw/X": "raw.X"}
FORMS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}


def write(path, write_h5ad, slide, place, form):
    """The slide's counts at one place in one form; logarithms where they would be found first."""
    counts, logged = FORMS[form](slide.counts), sparse.csr_matrix(np.log1p(slide.counts).astype(np.float32))
    options = {"X": {"x": counts}, "layers/counts": {"x": logged, "layer": counts}, "raw/X": {"x": logged}}[place]
    write_h5ad(path, slide, raw=slide.counts if place == "raw/X" else None, **options)
    if place == "raw/X" and form == "csc":
        with h5py.File(path, "a") as h5:
            replace(h5["raw/X"], data=counts.data, indices=counts.indices, indptr=counts.indptr)
            h5["raw/X"].attrs["encoding-type"] = "csc_matrix"
    return path


def replace(node, **parts):
    for name, values in parts.items():
        del node[name]
        node[name] = values


def too_large(node):
    node["indices"][3:9] = 2_000_000_000


def just_too_large(node):
    node["indices"][-1] = 12 if "csc" in node.attrs["encoding-type"] else 6


def negative(node):
    node["indices"][3:9] = -2_000_000_000


def falling_pointers(node):
    pointers = node["indptr"][...]
    pointers[2], pointers[4] = pointers[4], pointers[2]
    node["indptr"][...] = pointers


def pointers_from_one(node):
    node["indptr"][0] = 1


def negative_pointer(node):
    node["indptr"][1] = -5


def pointers_beyond_the_end(node):
    node["indptr"][-1] += 1_000_000


def pointers_before_the_end(node):
    node["indptr"][-1] -= 1


def pointers_of_another_length(node):
    replace(node, indptr=node["indptr"][:-2])


def no_pointers(node):
    replace(node, indptr=node["indptr"][:0])


def fewer_data(node):
    replace(node, data=node["data"][:-4])


def fewer_indices(node):
    replace(node, indices=node["indices"][:-4])


def two_dimensions(node):
    replace(node, data=node["data"][...][:, None])


def words(node):
    replace(node, indices=[b"x"] * len(node["indices"]))


def fractional_pointers(node):
    replace(node, indptr=node["indptr"][...].astype(float))


def a_larger_shape(node):
    node.attrs["shape"] = [2_000_000_000, 2_000_000_000]


def a_smaller_shape(node):
    node.attrs["shape"] = [3, 2]


def a_negative_shape(node):
    node.attrs["shape"] = [-12, 6]


def a_shape_of_three(node):
    node.attrs["shape"] = [12, 6, 1]


def no_shape(node):
    del node.attrs["shape"]


def the_other_label(node):
    other = {"csr_matrix": "csc_matrix", "csc_matrix": "csr_matrix"}[node.attrs["encoding-type"]]
    node.attrs["encoding-type"] = other


def a_label_that_nobody_knows(node):
    node.attrs["encoding-type"] = "coo_matrix"


def no_indices(node):
    del node["indices"]


CASES = {
    too_large: "Expected indices from 0 to",
    just_too_large: "Expected indices from 0 to",
    negative: "Expected indices from 0 to",
    falling_pointers: "rises from 0 to .* received one that falls at entry",
    pointers_from_one: "received one from 1 to|one that falls",
    negative_pointer: "Expected an indptr that rises",
    pointers_beyond_the_end: "Expected an indptr that rises",
    pointers_before_the_end: "Expected an indptr that rises",
    pointers_of_another_length: "entries of indptr for shape",
    no_pointers: "entries of indptr for shape",
    fewer_data: "Expected as many indices as values",
    fewer_indices: "Expected as many indices as values",
    two_dimensions: "Expected lists of numbers",
    words: "Expected lists of numbers",
    fractional_pointers: "Expected lists of numbers",
    a_larger_shape: "entries of indptr for shape",
    a_smaller_shape: "entries of indptr for shape",
    a_negative_shape: "Expected a shape of two whole numbers",
    a_shape_of_three: "Expected a shape of two whole numbers",
    no_shape: "Expected a shape of two whole numbers",
    the_other_label: "under a wrong label?",
    a_label_that_nobody_knows: "Expected a dense, CSR or CSC matrix",
    no_indices: "encoding 'cs._matrix' without indices",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", CASES, ids=lambda fault: fault.__name__)
def test_one_sentence_from_both_commands(fault, place, form, tmp_path, make_slide, write_h5ad):
    path = write(tmp_path / "S1.h5ad", write_h5ad, make_slide("S1"), place, form)
    with h5py.File(path, "a") as h5:
        fault(h5[place])
    with pytest.raises(UserError, match=CASES[fault]) as caught:
        open_dataset(path, features="none")
    message = str(caught.value)
    assert f"in {PLACES[place]} of slide 'S1'" in message
    assert message in [f.message for f in check(path).findings if f.level == "error"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("values_per_block", [1, 7, 1_000])
def test_what_is_right_is_read(values_per_block, place, form, tmp_path, make_slide, write_h5ad):
    slide = make_slide("S1", n_spots=11)
    slide.counts[[0, 4, 5, 10]] = 0
    slide.counts[:, 3] = 0
    header = read_header("S1", write(tmp_path / "S1.h5ad", write_h5ad, slide, place, form))
    assert header.counts_at == place
    blocks = list(count_blocks(header, values_per_block))
    assert len(blocks) == 1 if values_per_block == 1_000 else len(blocks) > 2
    np.testing.assert_array_equal(sparse.vstack([block for _, block in blocks]).toarray(), slide.counts)


def test_a_layer_that_is_whole_serves_where_X_is_damaged(tmp_path, make_slide, write_h5ad):
    slide = make_slide("S1")
    path = write(tmp_path / "S1.h5ad", write_h5ad, slide, "layers/counts", "csr")
    with h5py.File(path, "a") as h5:
        too_large(h5["X"])
    assert read_header("S1", path).counts_at == "layers/counts"


def stored(node):
    return sparse.vstack([block for _, block in StoredMatrix(node, "X", "S1").blocks(10)]).toarray()


@pytest.mark.parametrize("dtype", ["<f2", ">f4", ">i2", "u1", "?", ">f8", "u8"])
def test_numbers_of_every_type_and_byte_order(tmp_path, dtype):
    counts = np.arange(12).reshape(3, 4) % 2
    for name, x in (("dense", counts), ("csr", sparse.csr_matrix(counts)), ("csc", sparse.csc_matrix(counts))):
        with h5py.File(tmp_path / "a.h5", "w") as h5:
            if name == "dense":
                h5["X"] = x.astype(dtype)
            else:
                h5.create_group("X").attrs.update({"encoding-type": f"{name}_matrix", "shape": [3, 4]})
                h5["X/data"], h5["X/indices"], h5["X/indptr"] = x.data.astype(dtype), x.indices, x.indptr
            np.testing.assert_array_equal(stored(h5["X"]), counts)


def test_labels_of_h5sparse(tmp_path):
    x = sparse.csc_matrix(np.arange(6).reshape(2, 3))
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_group("X").attrs.update({"h5sparse_format": b"csc", "h5sparse_shape": [2, 3]})
        h5["X/data"], h5["X/indices"], h5["X/indptr"] = x.data, x.indices, x.indptr
        np.testing.assert_array_equal(stored(h5["X"]), x.toarray())


def test_no_values_at_all(tmp_path, make_slide, write_h5ad):
    slide = make_slide("S1")
    slide.counts[:] = 0
    for form in FORMS:
        header = read_header("S1", write(tmp_path / f"{form}.h5ad", write_h5ad, slide, "X", form))
        assert sum(block.nnz for _, block in count_blocks(header)) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_entries_of_one_gene_are_added_up_without_overflow(tmp_path, make_slide, write_h5ad, dtype):
    """SciPy would add two uint8 of 200 to 144."""
    path = write_h5ad(tmp_path / "S1.h5ad", make_slide("S1", n_spots=2, genes=("A", "B")))
    with h5py.File(path, "a") as h5:
        replace(h5["X"], data=np.array([200, 200, 3], dtype), indices=[1, 1, 0], indptr=[0, 2, 3])
    ((_, block),) = count_blocks(read_header("S1", path))
    assert block.toarray().tolist() == [[0, 400], [3, 0]]


@pytest.mark.parametrize("form", ["twice in a row", "genes of one name", "several genes"])
def test_sums_that_32_bits_cannot_hold(tmp_path, make_slide, write_h5ad, form):
    genes = ("A", "A") if form == "genes of one name" else ("A", "B")
    slide = make_slide("S1", n_spots=2, genes=genes)
    slide.counts[:] = [[1_500_000_000, 1_500_000_000], [1, 2]]
    path = write_h5ad(tmp_path / "S1.h5ad", slide, x=sparse.csr_matrix(slide.counts))
    if form == "twice in a row":
        with h5py.File(path, "a") as h5:
            h5["X/indices"][...] = [1, 1, 0, 1]
    with pytest.raises(UserError, match=r"received 3e\+09 for gene B|fewer than 2147483648 counts .* has 3000000000"):
        open_dataset(path, features="none")
    assert check(path).status == "error"
