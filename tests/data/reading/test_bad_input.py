"""Every way a data folder can be wrong: one sentence from `open_dataset`, the same finding from the doctor.

Each case breaks a whole folder in one way and gives the informative end of the sentence.
"""

from __future__ import annotations

import json
import os
import re
import shutil

import h5py
import numpy as np
import pytest
from scipy import sparse

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.errors import UserError

CASES = {}


def case(sentence, features="uni"):
    """Register a way to break a folder; the function gets the folder and a bag of tools."""

    def register(function):
        CASES[function.__name__] = (function, sentence, features)
        return function

    return register


@case(r"found nothing\. Did you mean 'TASK'\?")
def wrong_folder(root, tools):
    return root.with_name("TASKS")


@case(r"in .*TASK, which has embeddings, patches; give the folder that contains adata/\.$")
def missing_adata(root, tools):
    shutil.rmtree(root / "adata")


@case(r"which is empty; give the folder that contains adata/\.$")
def empty_folder(root, tools):
    (root.parent / "nothing").mkdir()
    return root.parent / "nothing"


@case(r"holds 1 \(TASK\); give one, such as .*TASK\.$")
def folder_of_tasks(root, tools):
    return root.parent


@case(r"S1\.h5ad is truncated or damaged .*; copy or download it again\.$")
def truncated_h5ad(root, tools):
    os.truncate(root / "adata" / "S1.h5ad", 3000)


@case(r"S1\.h5ad is not HDF5; check what was saved under this name\.$")
def text_called_h5ad(root, tools):
    (root / "adata" / "S1.h5ad").write_text("barcode,ERBB2\n")


@case(r"is only a Git LFS pointer to one; run `git lfs pull` where it came from\.$")
def lfs_pointer(root, tools):
    (root / "adata" / "S1.h5ad").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


@case(r"S1\.h5ad is empty \(0 bytes\); copy or download it again\.$")
def zero_bytes(root, tools):
    (root / "adata" / "S1.h5ad").write_bytes(b"")


@case(r"at .*S1\.h5ad, (found a folder; give the file itself|cannot read it \(Is a directory\))\.$")
def unreadable_file(root, tools):
    (root / "adata" / "S1.h5ad").unlink()
    (root / "adata" / "S1.h5ad").mkdir()


@case(r"received a damaged one at .*S1\.h5ad .*; copy or download it again\.$")
def damaged_chunk(root, tools):
    path = tools.h5ad(root, 0, x=sparse.csr_matrix(tools.slides[0].counts))
    with h5py.File(path, "a") as h5:
        values = h5["X/data"][...]
        del h5["X/data"]
        h5.create_dataset("X/data", data=values, compression="gzip", chunks=(10,))
        where = h5["X/data"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as stream:
        stream.seek(where)
        stream.write(b"\xff" * 8)


@case(r"Expected a table 'obs' in the h5ad of slide 'S1', found none; is it an AnnData file\?$")
def not_anndata(root, tools):
    with h5py.File(root / "adata" / "S1.h5ad", "w") as h5:
        h5["X"] = np.zeros((3, 3))


@case(r"S1-\w+ comes twice \(1 repeats\); features could not be joined: rename or remove the repeats\.$")
def duplicate_barcodes(root, tools):
    tools.slides[0].barcodes[3] = tools.slides[0].barcodes[5]
    tools.h5ad(root, 0)


@case(r"S2-\w+ comes twice; write the file again\.$")
def duplicate_barcodes_in_features(root, tools):
    tools.slides[1].barcodes[0] = tools.slides[1].barcodes[1]
    tools.embeddings(root, 1)


@case(r"found neither; rows are never joined by order: .* \.barcodes\.txt\.$")
def missing_barcodes_in_features(root, tools):
    with h5py.File(root / "embeddings/uni/S1.h5", "a") as h5:
        del h5["barcodes"], h5["coords"]


@case(r"such as 'S2-\w+'\) in .*uni/S2\.h5, received 'S1-\w+'; none of 9 matches: is it another slide's file\?$")
def features_of_another_slide(root, tools):
    shutil.copy(root / "embeddings/uni/S1.h5", root / "embeddings/uni/S2.h5")


@case(r"received -4 for gene MKI67 in spot S1-\w+; give the counts before normalisation\.$")
def negative_count(root, tools):
    tools.slides[0].counts[7, 2] = -4
    tools.h5ad(root, 0, layer=sparse.csr_matrix(tools.slides[0].counts))


@case(r"slide 'S1', X holds 1\.5; put the counts before normalisation into layers\['counts'\] or X\.$")
def fractional_counts(root, tools):
    tools.h5ad(root, 0, x=sparse.csr_matrix(np.full((12, 6), 1.5, np.float32)))


@case(r"in layers\['counts'\] of slide 'S1', received 0\.25 for gene ERBB2 in spot .*before normalisation\.$")
def fractional_counts_layer(root, tools):
    tools.h5ad(root, 0, layer=np.full((12, 6), 0.25))


@case(r"slide 'S1', X holds nan; put the counts before normalisation into layers\['counts'\] or X\.$")
def nan_counts(root, tools):
    x = tools.slides[0].counts.astype(float)
    x[3, 3] = np.nan
    tools.h5ad(root, 0, x=x)


@case(r"received 3e\+09 for gene ACTB in spot .*before normalisation\.$")
def absurd_count(root, tools):
    layer = tools.slides[0].counts.astype(float)
    layer[0, 1] = 3e9
    tools.h5ad(root, 0, layer=layer)


@case(r"Expected spots in slide 'S1', it is empty; leave it out\.$")
def empty_slide(root, tools):
    slide = tools.slides[0]
    slide.counts, slide.barcodes, slide.xy = slide.counts[:0], [], slide.xy[:0]
    tools.h5ad(root, 0)


@case(r"found none; add them as \(x, y\) in pixels\.$")
def no_coordinates(root, tools):
    with h5py.File(root / "adata" / "S1.h5ad", "a") as h5:
        del h5["obsm/spatial"]


@case(r"has \[nan, .*\] \(2 such spots\); remove these spots\.$")
def nan_coordinates(root, tools):
    tools.slides[0].xy[4:6, 0] = np.nan
    with h5py.File(root / "adata" / "S1.h5ad", "a") as h5:
        h5["obsm/spatial"][...] = tools.slides[0].xy


@case(r"received 0 shared of 6 in the smallest; slide 'S\d' is the odd one .*; leave it out or mend its gene names\.$")
def no_shared_genes(root, tools):
    tools.slides[0].genes = [f"other{i}" for i in range(6)]
    tools.h5ad(root, 0)


@case(r"spot S2-\w+ has NaN or infinite values .*; extract them again or leave the spots out\.$")
def nan_features(root, tools):
    tools.slides[1].features[2, 1], tools.slides[1].features[5, 3] = np.nan, np.inf
    tools.embeddings(root, 1)


@case(r"spot S2-\w+ has 3e\+38 in .*S2\.h5 \(1 such spots in its block\); extract them again or leave the spots out\.$")
def features_near_the_end_of_float32(root, tools):
    tools.slides[1].features[2, 1] = 3e38
    tools.embeddings(root, 1)


@case(r"for slide 'S2' in uni, received S1\.h5; add S2\.h5 or leave the slide out\.$")
def features_missing_for_one_slide(root, tools):
    (root / "embeddings/uni/S2.h5").unlink()


@case(r"of one width, .*'S1' has 4.*'S2' (has )?3; (use files of one encoder|make them with one extractor)\.$")
def width_mismatch(root, tools):
    tools.slides[1].features = tools.slides[1].features[:, :3]
    tools.embeddings(root, 1)


@case(r"px away; check that both are full-resolution pixels of one image\.$")
def coordinates_that_do_not_match(root, tools):
    with h5py.File(root / "embeddings/uni/S1.h5", "w") as h5:
        h5["features"] = tools.slides[0].features
        h5["coords"] = tools.slides[0].xy * 0.25
        h5["coords"].attrs["patch_size_level0"] = 50


@case(r"received 12 for 11 rows; write the file again\.$")
def fewer_features_than_barcodes(root, tools):
    with h5py.File(root / "embeddings/uni/S1.h5", "a") as h5:
        del h5["embeddings"]
        h5["embeddings"] = tools.slides[0].features[:11]


@case(r"received float32 of shape \(4,\) \(one vector for the whole slide\?\); extract one row per spot\.$")
def slide_level_features(root, tools):
    with h5py.File(root / "embeddings/uni/S1.h5", "w") as h5:
        h5["features"] = tools.slides[0].features[0]


@case(r"received gene_list, x; rename it\.$")
def unknown_names_in_features(root, tools):
    with h5py.File(root / "embeddings/uni/S1.h5", "w") as h5:
        h5["x"], h5["gene_list"] = tools.slides[0].features, [1.0]


@case(r"never joined by order: .*\.barcodes\.txt\.$")
def positional_npy(root, tools):
    (root / "embeddings/uni/S1.h5").unlink()
    np.save(root / "embeddings/uni/S1.npy", tools.slides[0].features)


@case(r"cannot read .*S1\.npy \(.*\); save it with numpy\.save\.$")
def broken_npy(root, tools):
    (root / "embeddings/uni/S1.h5").unlink()
    (root / "embeddings/uni/S1.npy").write_bytes(b"not numpy")


@case(r"received S1\.h5 and S1\.npy; give a pattern that picks one, such as 'folder/\{slide\}\.h5'\.$")
def two_feature_files_for_one_slide(root, tools):
    np.save(root / "embeddings/uni/S1.npy", tools.slides[0].features)


@case(r"found no folder 'unii' here or in .*TASK\. Did you mean 'uni'\?$", features="unii")
def unknown_encoder(root, tools):
    pass


@case(r"sections\.csv, there is none for 'S9'; remove the line or add the file\. Known: S1, S2\.$")
def sections_csv_with_unknown_ids(root, tools):
    (root / "sections.csv").write_text("section,patient\nS1,P1\nS9,P2\n")


@case(
    r"'P1' in obs\['patient'\] and 'P7' in sections\.csv, line 2; make them agree, because splits hold out patients\.$"
)
def contradicting_patients(root, tools):
    (root / "sections.csv").write_text("section,patient\nS1,P7\n")


@case(r"naming the section \(section, slide, .*\) in .*, received name, patient; rename one\.$")
def sections_csv_without_names(root, tools):
    (root / "sections.csv").write_text("name,patient\nS1,P7\n")


@case(r"received 'P1' in sections\.csv, line 2 and 'P3' in sections\.csv, line 4; make them agree, because .*\.$")
def one_section_with_two_patients_in_sections_csv(root, tools):
    (root / "sections.csv").write_text("section,patient\nS1,P1\nS2,P2\nS1,P3\n")


@case(r"received 'P1' in obs\['patient'\] and 'Breast / P9' in HEST\.tsv, line 3; make them agree, because .*\.$")
def contradicting_metadata(root, tools):
    (root / "HEST.tsv").write_text("id\tdataset_title\tpatient\nS2\tBreast\tP2\nS1\tBreast\tP9\n")


@case(r"received 'P1' in obs\['patient'\] and 'P9' in metadata/S1\.json; make them agree, because .*\.$")
def contradicting_metadata_of_a_section(root, tools):
    (root / "metadata").mkdir()
    (root / "metadata" / "S1.json").write_text('{"patient": "P9"}')


@case(r"metadata of a section as JSON in .*S1\.json, cannot read it \(JSONDecodeError\); mend or remove it\.$")
def damaged_metadata_of_a_section(root, tools):
    (root / "metadata").mkdir()
    (root / "metadata" / "S1.json").write_text('{"patient": ')


@case(r"Expected keys and values in .*S1\.json, received a list; mend or remove it\.$")
def metadata_of_a_section_without_keys(root, tools):
    (root / "metadata").mkdir()
    (root / "metadata" / "S1.json").write_text('["P1"]')


@case(r"Expected each column once in .*sections\.csv, found 'patient' twice; rename or remove one\.$")
def sections_csv_with_a_column_twice(root, tools):
    (root / "sections.csv").write_text("section,patient,patient\nS1,P1,P2\n")


@case(r"a table of text at .*sections\.csv, cannot read it \(UnicodeDecodeError.*\); save it as CSV in UTF-8\.$")
def sections_csv_that_is_a_workbook(root, tools):
    (root / "sections.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00")


@case(r"Expected a table with a header at .*sections\.csv, found it empty; write it again or remove it\.$")
def sections_csv_without_anything(root, tools):
    (root / "sections.csv").write_text("\n\n")


@case(r"Expected 2 fields in every line of .*sections\.csv, received 3 in line 3; mend the line\.$")
def sections_csv_with_a_field_too_many(root, tools):
    (root / "sections.csv").write_text("section,patient\nS1,P1\nS2,P2,left\n")


@case(
    r"Expected a CSV table at .*sections\.csv, line 3 cannot be read \(unexpected end of data\); mend or remove it\.$"
)
def sections_csv_with_a_quote_left_open(root, tools):
    (root / "sections.csv").write_text('section,patient\nS1,"P1\nS2,P2\n')


@case(r"section 'S1' has 2 in obs\['patient'\] \(P1, P5\); save one h5ad per patient\.$")
def two_patients_in_one_section(root, tools):
    with h5py.File(root / "adata/S1.h5ad", "a") as h5:
        del h5["obs/patient"]
        h5["obs/patient"] = ["P1"] * 6 + ["P5"] * 6


@case(r"Expected patches/S2\.h5 to compute features from, found none; add", features="builtin")
def builtin_features_without_patches(root, tools):
    (root / "patches/S2.h5").unlink()


@case(r"of one size, slide 'S1' has 8 px and slide 'S2' 6 px; cut|'S2' has \(6, 6, 3\); make", features="none")
def patches_of_two_sizes(root, tools):
    tools.slides[1].images = tools.slides[1].images[:, :6, :6]
    tools.patches(root, 1)


@case(r"in .*S1\.h5, received uint8 \(12, 8, 8\); convert them to 8-bit RGB\.$", features="none")
def grey_patches(root, tools):
    tools.slides[0].images = tools.slides[0].images[..., 0]
    tools.patches(root, 0)


@case(r"S1\.h5 is truncated or damaged .*; copy or download it again\.$", features="none")
def truncated_patches(root, tools):
    os.truncate(root / "patches/S1.h5", 2100)


@case(r"Expected patches of at least 16 x 16 px, received 8 x 8; cut larger patches\.$", features="builtin")
def patches_too_small_for_the_extractor(root, tools):
    pass


class Tools:
    """Write one of the slides again after it was changed."""

    def __init__(self, slides, h5ad, patches, embeddings):
        self.slides, self._h5ad, self._patches, self._embeddings = slides, h5ad, patches, embeddings

    def h5ad(self, root, i, **options):
        return self._h5ad(root / "adata" / f"{self.slides[i].name}.h5ad", self.slides[i], **options)

    def patches(self, root, i):
        self._patches(root / "patches" / f"{self.slides[i].name}.h5", self.slides[i])

    def embeddings(self, root, i):
        self._embeddings(root / "embeddings" / "uni" / f"{self.slides[i].name}.h5", self.slides[i])


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize("name", CASES)
def test_one_sentence_and_the_same_from_the_doctor(
    name, task, write_h5ad, write_patches, write_embeddings, private_cache
):
    break_it, sentence, features = CASES[name]
    root, slides = task()
    changed = break_it(root, Tools(slides, write_h5ad, write_patches, write_embeddings)) or root
    with pytest.raises(UserError) as caught:
        open_dataset(changed, features=features)
    message = str(caught.value)
    assert re.search(sentence, message), message
    assert "\n" not in message
    datasets = private_cache / "datasets"
    assert not datasets.exists() or all(p.name.endswith(".lock") for p in datasets.iterdir())
    report = check(changed, features=features)
    assert report.status == "error"
    assert any(re.search(sentence, f.message) for f in report.findings if f.level == "error"), report.findings
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("value", [-1, 2.5, True, "3"])
def test_min_counts_is_a_whole_number(task, value):
    with pytest.raises(UserError, match="Expected min_counts as a whole number from 0, received"):
        open_dataset(task()[0], features="uni", min_counts=value)


def test_min_counts_that_leave_nothing(task):
    with pytest.raises(UserError, match=r"at least 100000 counts in slide 'S1', found none; lower min_counts or"):
        open_dataset(task()[0], features="uni", min_counts=100_000)


def test_a_patch_file_that_changes_after_opening(task):
    root, _ = task()
    reader = open_dataset(root, features="none").patches
    with h5py.File(root / "patches" / "S1.h5", "w") as h5:
        h5["img"] = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(UserError, match=r"the file changed or is damaged: copy it again\.$"):
        reader.read(np.arange(12))
