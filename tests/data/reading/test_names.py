"""Gene names: every rule by example, and invariances by hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.gene_kinds import CONTROL, NO_NAME, is_control
from agl.data.reading.names import REPEATED, RawNames, harmonise
from agl.errors import UserError


def lost(result) -> set[tuple[str, str, str]]:
    return {tuple(row) for row in result.lost.to_numpy().tolist()}


def test_versions_white_space_controls_and_empty_names():
    result = harmonise(
        {
            "A": RawNames(["ENSG00000141736.14", " ENSG00000075624", "BLANK_0001", "", "ENSG00000000003"]),
            "B": RawNames(["ENSG00000075624.9", "NegControlProbe_7", "ENSG00000141736"]),
        }
    )
    assert result.genes == ("ENSG00000075624", "ENSG00000141736")
    assert result.columns["A"].tolist() == [1, 0, -1, -1, -1]
    assert result.columns["B"].tolist() == [0, -1, 1]
    assert result.is_gene["A"].tolist() == [True, True, False, False, True]
    assert lost(result) == {
        ("A", "BLANK_0001", CONTROL),
        ("A", "", NO_NAME),
        ("A", "ENSG00000000003", "not measured in B"),
        ("B", "NegControlProbe_7", CONTROL),
    }


@pytest.mark.parametrize(
    "name",
    [
        "BLANK_0006",
        "Blank-1",
        "NegControlCodeword_0500",
        "NegPrb12",
        "antisense_PROKR2",
        "UnassignedCodeword_0001",
        "DeprecatedCodeword_3",
        "DEPRECATED_ENSG00000111111",
        "SystemControl4",
        "Intergenic_Region_9",
        "FalseCode1",
        "Negative12",
        "NegProbe-WTX",
        "ERCC-00002",
        "CD3_TotalSeqB",
        "Hashtag1",
    ],
)
def test_probes_that_measure_no_gene(name):
    assert is_control(name)


@pytest.mark.parametrize("name", ["ERBB2", "NEGR1", "BLK", "CNTRL", "AC004556.1", "MT-CO1", "NEDD4", "DEPDC1", "ERCC1"])
def test_genes_that_look_a_little_like_probes(name):
    assert not is_control(name)


def test_repeated_names_are_added_up(task, make_slide):
    slide = make_slide("A", genes=("ERBB2", "ACTB", "ERBB2 ", "ACTB"))
    root, _ = task([slide])
    dataset = open_dataset(root, features="none")
    assert dataset.genes == ("ACTB", "ERBB2")
    np.testing.assert_array_equal(dataset.counts.toarray()[:, 0], slide.counts[:, 1] + slide.counts[:, 3])
    np.testing.assert_array_equal(dataset.counts.toarray()[:, 1], slide.counts[:, 0] + slide.counts[:, 2])
    np.testing.assert_array_equal(dataset.library_size, slide.counts.sum(axis=1))
    assert dataset.report["genes"]["notes"] == ["A: 2 repeated gene names, counts added up"]
    assert dataset.lost_genes().to_numpy().tolist() == [["A", "ERBB2", REPEATED], ["A", "ACTB", REPEATED]]


def test_control_probes_are_no_part_of_the_library_size(task, make_slide):
    slide = make_slide("A", genes=("ERBB2", "BLANK_1", "ACTB"))
    dataset = open_dataset(task([slide])[0], features="none")
    np.testing.assert_array_equal(dataset.library_size, slide.counts[:, [0, 2]].sum(axis=1))


def test_letter_case_between_slides_but_not_within():
    result = harmonise(
        {
            "A": RawNames(["Erbb2", "ACTB", "Actb"]),  # a graft: human ACTB and mouse Actb are two genes
            "B": RawNames(["ERBB2", "ACTB", "Actb"]),
            "C": RawNames(["ERBB2", "Actb", "ACTB"]),
        }
    )
    assert result.genes == ("ACTB", "Actb", "ERBB2")
    assert result.columns["A"].tolist() == [2, 0, 1]
    assert result.notes == ("1 genes spelled with different letter case between slides, e.g. ERBB2",)


def test_ids_become_symbols_through_the_slides_own_table(task, make_slide, write_h5ad):
    ids = ["ENSG00000141736", "ENSG00000075624", "ENSG00000148773"]
    by_id, by_symbol = make_slide("A", genes=ids), make_slide("B", genes=("MKI67", "ERBB2", "ACTB"))
    root, _ = task([by_id, by_symbol])
    with pytest.raises(UserError, match=r"slide 'A' has names like ENSG.* add a column 'gene_symbols' to var"):
        open_dataset(root, features="none")
    write_h5ad(root / "adata" / "A.h5ad", by_id, var={"gene_symbols": ["ERBB2", "ACTB", "MKI67"]})
    dataset = open_dataset(root, features="none")
    assert dataset.genes == ("ACTB", "ERBB2", "MKI67")
    np.testing.assert_array_equal(dataset.counts.toarray()[:12], by_id.counts[:, [1, 0, 2]])
    write_h5ad(root / "adata" / "A.h5ad", by_id)
    write_h5ad(root / "adata" / "B.h5ad", by_symbol, var={"gene_ids": [ids[2], ids[0], ids[1]]})
    assert open_dataset(root, features="none").genes == tuple(sorted(ids))


def test_a_few_ids_among_symbols_are_translated():
    """HEST: slides with symbols where the annotation knows one, Ensembl ids elsewhere."""
    mixed = RawNames(["ERBB2", "ENSG00000075624", "ENSG00000000001"], symbols=("ERBB2", "ACTB", ""))
    result = harmonise({"A": mixed, "B": RawNames(["ACTB", "ERBB2", "MKI67"])})
    assert result.genes == ("ACTB", "ERBB2")
    assert ("A", "ENSG00000000001", "not measured in B") in lost(result)


def test_the_odd_slide_is_named():
    good = [f"G{i}" for i in range(40)]
    with pytest.raises(UserError, match=r"received 1 shared of 21 in the smallest; slide 'odd' is the odd one \(21 "):
        harmonise({"A": RawNames(good), "B": RawNames(good), "odd": RawNames([f"H{i}" for i in range(20)] + ["G0"])})
    rat = [f"ENSRNOG{i:011d}" for i in range(40)]
    with pytest.raises(UserError, match="slide 'rat' has names like ENSRNOG00000000000 and slide 'A' like G0"):
        harmonise({"A": RawNames(good), "B": RawNames(good), "rat": RawNames(rat)})


genes = st.lists(st.sampled_from([f"G{i}" for i in range(12)]), min_size=8, max_size=14)


@given(genes, genes, st.randoms(use_true_random=False))
def test_order_of_genes_does_not_matter_and_nothing_disappears(a, b, random):
    try:
        result = harmonise({"A": RawNames(a), "B": RawNames(b)})
    except UserError:
        assert not set(a) & set(b)
        return
    assert set(result.genes) == set(a) & set(b)
    shuffled = list(b)
    random.shuffle(shuffled)
    assert harmonise({"A": RawNames(a), "B": RawNames(shuffled)}).genes == result.genes
    for slide, own in (("A", a), ("B", b)):
        kept = [name for name, column in zip(own, result.columns[slide], strict=True) if column >= 0]
        repeats = len(kept) - len(set(kept))
        assert set(kept) == set(result.genes)
        assert len(own) == len(result.genes) + len(result.lost[result.lost.slide == slide])
        assert repeats == (result.lost[(result.lost.slide == slide)].gene.isin(result.genes)).sum()


TEN_X = ["Antibody Capture", "CRISPR Guide Capture", "Multiplexing Capture", "Custom", "Antigen Capture", "Peaks"]
XENIUM = ["Negative Control Probe", "Negative Control Codeword", "Unassigned Codeword", "Deprecated Codeword"]


@pytest.mark.parametrize("kind", [*TEN_X, *XENIUM, "Genomic Control", "Blank Codeword", "Something of next year"])
def test_features_that_are_no_genes(kind):
    raw = RawNames(["ERBB2", "CD3E", "CD3E"], kinds=["Gene Expression", "Gene Expression", kind])
    result = harmonise({"A": raw, "B": RawNames(["CD3E", "ERBB2"])})
    assert result.columns["A"].tolist() == [1, 0, -1]
    assert result.is_gene["A"].tolist() == raw.is_gene().tolist() == [True, True, False]
    assert lost(result) == {("A", "CD3E", f"feature type {kind}")}
    assert result.notes == (
        f"1 columns are no genes (1 {kind}, e.g. CD3E of A): neither scored nor part of the library size",
    )


@pytest.mark.parametrize(
    "kinds", [None, ["Gene Expression"] * 3, ["protein_coding", "lncRNA", "IG_C_gene"], ["", "", ""], ["gene"] * 3]
)
def test_genes_of_every_vocabulary(kinds):
    assert RawNames(["A", "B", "C"], kinds=kinds).is_gene().all()


def test_other_vocabularies_know_what_is_no_gene():
    kinds = ["protein_coding", "spike-in", "Antibody Capture", "ADT"]
    assert RawNames(["A", "B", "C", "D"], kinds=kinds).is_gene().tolist() == [True, False, False, False]


def test_antibodies_are_neither_added_to_their_genes_nor_to_the_library_size(task, make_slide, write_h5ad):
    genes = ("ERBB2", "CD3E", "ACTB")
    slides = [make_slide("A", genes=genes), make_slide("B", genes=genes)]
    root, _ = task(slides)
    before = open_dataset(root, features="none")
    both = make_slide("A", genes=(*genes, "CD3E", "KRT5.1"))
    both.counts, both.xy = np.c_[slides[0].counts, np.full((12, 2), 5_000)], slides[0].xy
    both.barcodes = slides[0].barcodes
    kinds = ["Gene Expression"] * 3 + ["Antibody Capture"] * 2
    write_h5ad(root / "adata" / "A.h5ad", both, var={"feature_types": kinds})
    after = open_dataset(root, features="none")
    assert after.genes == before.genes
    np.testing.assert_array_equal(after.counts.toarray(), before.counts.toarray())
    np.testing.assert_array_equal(after.library_size, before.library_size)
    assert after.report["sections"]["A"]["genes_lost"] == {"feature type Antibody Capture": 2}
    report = check(root, features="none")
    assert report.sections[0].counts_max == slides[0].counts.sum(1).max()
    assert any("2 Antibody Capture" in f.message for f in report.findings)
