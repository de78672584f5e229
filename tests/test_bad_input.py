"""Thirty and more kinds of bad input: exit status 2, one sentence that says what came and what to do, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

QUICK = ["model=mlp", "training.epochs=1", "primary.k=10", "primary.min_detection=0", "data.features=latent"]

CONFIG_MISTAKES = [
    (["nothing.yaml"], "there is no such file"),
    (["example"], "write data.root=example."),
    (["."], "write data.root=.."),
    (["data.root=exmple"], "Did you mean 'example'?"),
    (["trainng.epochs=3"], "Did you mean 'training'?"),
    (["training.epochs=many"], "received 'many'"),
    (["training.batch_size=1"], "received 1"),
    (["loss=listwse"], "Did you mean 'listwise'?"),
    (["loss.count_powr=1"], "Did you mean 'count_power'?"),
    (["model=mpl"], "Did you mean 'mlp'?"),
    (["model.hiden=3"], "Did you mean 'hidden'?"),
    (["split=leave_one_patint_out"], "Did you mean 'leave_one_patient_out'?"),
    (["primary=despersion"], "Did you mean 'dispersion'?"),
    (["auxiliary.genes=coexpresed"], "Did you mean 'coexpressed'?"),
    (["training.sampler=gruped"], "Did you mean 'grouped'?"),
    (["fold=7"], "received fold=7. The folds are 0: "),
    (["data.sections=[P9]"], "P9"),
    (["data.features=nowhere"], "nowhere"),
    (["primary.k=100000"], "100000"),
    (["primary=file", "primary.path=nothing.json"], "nothing.json"),
    (["loss=nowhere.py:mine"], "there is no such file"),
    (["plugins=[nowhere.py:Mine]"], "there is no such file"),
    (["training.device=cuda:9"], "training.device"),
    (["training.device=tpu9"], "received 'tpu9'"),
    (["auxiliary.genes=dkgsb", "model=linear"], "trunk"),
    (["model=hest-pca256"], "256"),
    (["validation.fraction=1.5"], "received 1.5"),
    (["training.augment=rotate"], "Unknown augment 'rotate'"),
    (["training.augment=dihedral"], "Set data.features=none, or training.augment=none"),
    (["training.workers=-1"], "received -1"),
    (["auxiliary.genes=dkgsb", "auxiliary.outer.engine=exact"], "Unknown engine 'exact'"),
    (["auxiliary.genes=dkgsb", "auxiliary.outer.engine=closed_form"], "Use model=low_rank or model=committee"),
    (["auxiliary.genes=dkgsb", "auxiliary.outer.engine=jvp", "model=low_rank"], "Leave it out, or use model=mlp"),
    (["loss=margin_ranking", "model=convex"], "use loss=pairwise, its smooth form"),
    (["model=convex", "model.penalty=-1"], "Expected penalties above 0"),
    (["model=committee", "model.without=[lisstwise]"], "Did you mean 'listwise'"),
    (["data.features=none", "model=committee"], "Expected patches or features to learn from"),
]


def assert_one_sentence(outcome: tuple[int, str, str], part: str) -> None:
    status, _, err = outcome
    assert status == 2, err
    assert part in err, err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize(("words", "part"), CONFIG_MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_in_the_config(agl, sections: Path, tmp_path: Path, words: list[str], part: str) -> None:
    shared = [
        f"data.root={sections}",
        *(w for w in QUICK if not any(w.split("=")[0] == x.split("=")[0] for x in words)),
    ]
    if words[0].startswith("primary="):
        shared = [w for w in shared if not w.startswith("primary.")]
    assert_one_sentence(agl("train", *shared, *words), part)
    assert not list(tmp_path.glob("runs/**/result.json")), "nothing may look finished"


def rewrite(path: Path, change) -> None:
    section = anndata.read_h5ad(path)
    changed = change(section)
    (section if changed is None else changed).write_h5ad(path)


def non_integer(section) -> None:
    section.X = section.X.astype(np.float32) * 0.5


def negative(section) -> None:
    counts = section.X.toarray().astype(np.int32)
    counts[0, 0] = -3
    section.X = sparse.csr_matrix(counts)


def duplicate_barcodes(section) -> None:
    names = section.obs_names.to_list()
    names[1] = names[0]
    section.obs_names = names


def other_genes(section) -> None:
    section.var_names = [f"OTHER{i}" for i in range(section.n_vars)]


def no_spots(section):
    return section[:0].copy()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (non_integer, "layers"),
        (negative, "holds -3"),
        (duplicate_barcodes, "barcode"),
        (other_genes, "genes"),
        (no_spots, "spots"),
    ],
)
def test_a_broken_section(agl, own_sections: Path, change, part: str) -> None:
    rewrite(sorted(own_sections.glob("adata/*.h5ad"))[1], change)
    outcome = agl("train", f"data.root={own_sections}", *QUICK)
    assert_one_sentence(outcome, part)


def test_a_truncated_section(agl, own_sections: Path) -> None:
    file = sorted(own_sections.glob("adata/*.h5ad"))[0]
    file.write_bytes(file.read_bytes()[:2000])
    assert_one_sentence(agl("train", f"data.root={own_sections}", *QUICK), file.stem)


def test_features_that_are_not_finite(agl, own_sections: Path) -> None:
    file = sorted(own_sections.glob("embeddings/latent/*.h5"))[0]
    with h5py.File(file, "a") as content:
        content["embeddings"][3, 0] = np.nan
    assert_one_sentence(agl("train", f"data.root={own_sections}", *QUICK), file.stem)


def test_a_feature_file_that_is_missing(agl, own_sections: Path) -> None:
    file = sorted(own_sections.glob("embeddings/latent/*.h5"))[0]
    file.unlink()
    assert_one_sentence(agl("train", f"data.root={own_sections}", *QUICK), file.stem)


def test_a_folder_that_is_not_there_and_one_that_is_empty(agl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_sentence(agl("train", "data.root=nowhere"), "nowhere")
    assert_one_sentence(agl("train", "data.root=empty"), "empty")


def test_a_patient_on_both_sides(agl, own_sections: Path) -> None:
    ids = sorted(file.stem for file in own_sections.glob("adata/*.h5ad"))
    for file in (own_sections / "splits").glob("*.csv"):
        file.unlink()
    for part, names in {"train": ids[:2], "test": ids[2:]}.items():
        rows = [f"{name},patches/{name}.h5,adata/{name}.h5ad" for name in names]
        (own_sections / "splits" / f"{part}_0.csv").write_text(
            "\n".join(["sample_id,patches_path,expr_path", *rows]) + "\n"
        )
    for name in (ids[0], ids[2]):
        rewrite(own_sections / "adata" / f"{name}.h5ad", lambda s: s.obs.__setitem__("patient", "twin"))
    assert_one_sentence(agl("train", f"data.root={own_sections}", "split=hest_csv", *QUICK), "twin")


def copy_of_a_section(root: Path, patient: str) -> None:
    """The first section once more: spots shuffled, three fewer, two genes renamed, under another name."""
    first = sorted(root.glob("adata/*.h5ad"))[0]
    section = anndata.read_h5ad(first)
    section = section[np.random.default_rng(0).permutation(section.n_obs)[3:]].copy()
    section.var_names = ["renamed0", "renamed1", *section.var_names[2:]]
    section.obs["patient"] = patient
    section.write_h5ad(root / "adata" / "copy.h5ad")
    (root / "embeddings/latent/copy.h5").write_bytes((root / f"embeddings/latent/{first.stem}.h5").read_bytes())


def test_a_section_twice_on_both_sides(agl, own_sections: Path) -> None:
    copy_of_a_section(own_sections, patient="somebody else")
    outcome = agl("train", f"data.root={own_sections}", *QUICK)
    assert_one_sentence(outcome, "'P1S1' and 'copy' with the same counts in 37 of 37 spots in both training and test")
    assert agl("train", f"data.root={own_sections}", *QUICK, "allow_leaks=[duplicate]", "fold=0")[0] == 0
    table = json.loads(agl("table", "runs", "--json")[1])
    assert table["runs"][0]["optimistic"]


def test_a_section_twice_on_one_side_is_said(agl, own_sections: Path) -> None:
    copy_of_a_section(own_sections, patient="P1")
    status, _, err = agl("train", f"data.root={own_sections}", *QUICK, "fold=0")
    assert status == 0, err
    assert "warning: Sections 'P1S1' and 'copy' have the same counts in 37 of 37 spots: one section twice; leave" in err


def test_one_patient_cannot_be_left_out(agl, sections: Path) -> None:
    name = sorted(file.stem for file in sections.glob("adata/*.h5ad"))[0]
    assert_one_sentence(agl("train", f"data.root={sections}", f"data.sections=[{name}]", *QUICK), "patient")


def test_a_gene_list_with_an_unknown_gene(agl, sections: Path, tmp_path: Path) -> None:
    (tmp_path / "genes.json").write_text(json.dumps({"genes": ["NOSUCHGENE"]}))
    words = [w for w in QUICK if not w.startswith("primary")]
    words += ["primary=file", f"primary.path={tmp_path / 'genes.json'}"]
    assert_one_sentence(agl("train", f"data.root={sections}", *words), "NOSUCHGENE")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("import no_such_package_z", "could not be imported"),
        ("def mine(scores, counts, *, slides=None): return scores.mean()", "one value per gene"),
        ("def mine(scores, counts, *, slides=None): return (scores * float('nan')).mean(0)", "finite loss"),
        ("def other(scores, counts): return scores", "'mine'"),
    ],
)
def test_a_loss_of_ones_own_that_does_not_fit(agl, sections: Path, tmp_path: Path, body: str, part: str) -> None:
    (tmp_path / "mine.py").write_text(body + "\n")
    assert_one_sentence(agl("train", f"data.root={sections}", *QUICK, "loss=mine.py:mine"), part)


def test_commands_on_what_is_not_a_run(agl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_sentence(agl("evaluate", "nowhere"), "there is no such folder")
    assert_one_sentence(agl("evaluate", "empty"), "no config.yaml")
    assert_one_sentence(agl("predict", "nowhere", "P1"), "there is no such folder")
    assert_one_sentence(agl("table", "nowhere"), "there is no such folder")
    assert_one_sentence(agl("table", "empty"), "Train some with `agl train`")
    assert_one_sentence(agl("list", "lossez"), "Did you mean")


def test_an_output_folder_that_cannot_be_made(agl, sections: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert_one_sentence(agl("train", f"data.root={sections}", *QUICK, "output=taken"), "taken")


def test_a_path_that_is_a_folder_and_a_name_that_is_too_long(agl, sections: Path, tmp_path: Path) -> None:
    words = [f"data.root={sections}", "model=mlp", "training.epochs=1", "data.features=latent"]
    assert_one_sentence(agl("train", *words, "primary=file", f"primary.path={sections}"), "received the folder")
    assert_one_sentence(agl("train", *words, f"name={'x' * 300}"), "the name is too long")
    (tmp_path / "a file").write_text("")
    assert_one_sentence(agl("train", "data.root=a file"), "found a file; give the folder it is in")


def test_a_table_that_cannot_be_written(agl, sections: Path, tmp_path: Path) -> None:
    assert agl("train", f"data.root={sections}", *QUICK, "model=ridge", "fold=0")[0] == 0
    assert_one_sentence(agl("table", "runs", "--csv", "nowhere/x.csv"), "there is no such file or folder")
    (tmp_path / "taken.csv").mkdir()
    assert_one_sentence(agl("table", "runs", "--csv", "taken.csv"), "it is a folder")
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["simulate", "new", "preset=[1]"], "Expected a preset (standard, easy, hard, misleading), received '[1]'"),
        (["features", "{root}", "--device", "tpu"], "Expected the device cpu or cuda[:n], received 'tpu'"),
        (["features", "{root}", "--weights", "x.pt"], "Expected no weights for the encoder 'builtin', received x.pt"),
    ],
)
def test_mistakes_in_other_commands(agl, sections: Path, tmp_path: Path, words: list[str], part: str) -> None:
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "S1.h5").write_bytes(b"")
    assert_one_sentence(agl(*[word.replace("{root}", ".") for word in words]), part)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "embeddings").exists()


def test_debug_shows_the_traceback(agl) -> None:
    from agl.errors import UserError

    with pytest.raises(UserError):
        agl("train", "nothing.yaml", "--debug")
