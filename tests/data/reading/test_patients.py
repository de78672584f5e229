"""One patient in several spellings, in several places: one name, a warning, or a refusal; never two people unsaid."""

from __future__ import annotations

import codecs
import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.data.reading.sections import find_sections
from agl.data.reading.spelling import alike, clean, find_slide, one_spelling
from agl.errors import UserError


def patients(root):
    return {s.slide: s.patient for s in find_sections(root)}


def warnings_of(root):
    return [f.message for f in check(root, features="uni").findings if f.level == "warning"]


@pytest.fixture
def owned(task, make_slide):
    """A folder whose sections have these patients in `obs`, or none."""

    def write(*names):
        slides = [make_slide(f"S{i}", patient=name) for i, name in enumerate(names)]
        return task(slides)[0]

    return write


SAME = [
    (1, 1.0),
    ("1", "01"),
    ("P1", "P1 "),
    ("P1", "P\u200b1"),
    ("Ann", "\ufeffAnn"),
    ("Patient 1", "Patient\u00a0\u00a01"),
    ("Zo\u00eb", "Zoe\u0308"),
    ("7", "7."),
    ("007", 7),
]
ALIKE = [
    ("P1", "p1"),
    ("Patient 1", "Patient_1"),
    ("Patient 1", "Patient1"),
    ("patient-01", "Patient 1"),
    ("P1", "\uff30\uff11"),
    ("A.1", "A1"),
    ("Stra\u00dfe", "STRASSE"),
]
DIFFERENT = [("P1", "P11"), ("1-1", "11"), ("P1", "P2"), ("A", "B"), ("P1a", "P1b"), ("1", "10"), ("+", "-")]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_the_same_patient(owned, a, b):
    others = (2, 3) if clean(a).isdigit() else ("X2", "X3")
    root = owned(a, b, *others)
    found = patients(root)
    assert found["S0"] == found["S1"]
    assert len(set(found.values())) == 3
    assert check(root, features="uni").patients == sorted(set(found.values()))
    assert not any("alike" in warning for warning in warnings_of(root))


@pytest.mark.parametrize(("a", "b"), ALIKE)
def test_patients_that_look_alike_are_said(owned, a, b):
    root = owned(a, b, "X2")
    assert len(set(patients(root).values())) == 3
    first, second = sorted((a, b))
    expected = (
        f"Patients {first!r} and {second!r} look alike; if they are the same patient, spell them the same, for splits "
        "hold out patients by name."
    )
    assert expected in warnings_of(root)
    assert expected in open_dataset(root, features="uni").report["warnings"]


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_patients_that_differ_are_not_warned_of(owned, a, b):
    root = owned(a, b)
    assert len(set(patients(root).values())) == 2
    assert not any("alike" in warning for warning in warnings_of(root))


def test_leading_zeros_are_only_dropped_between_numbers(owned):
    assert list(patients(owned("1", "01", "P2")).values()) == ["1", "01", "P2"]  # said to be alike
    assert one_spelling(["01", "02", "10"]) == {"01": "01", "02": "02", "10": "10"}


@pytest.mark.parametrize("missing", ["", "NaN", "none", "NA", "n/a", " "])
def test_words_for_missing(owned, missing):
    root = owned(missing, "P2")
    assert [(s.patient, s.patient_source) for s in find_sections(root)] == [
        ("S0", "slide name"),
        ("P2", "obs['patient']"),
    ]


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None, 1], dtype="Int64"),
        pd.Categorical([1.0, None, 1.0]),
        np.array([1.0, np.nan, 1.0]),
        pd.array(["1", None, "1"], dtype="string"),
        pd.Categorical(["1", "1 ", "1.0"], categories=["unused", "1", "1 ", "1.0"]),
    ],
    ids=["nullable integer", "categories of numbers", "number with a gap", "nullable string", "categories"],
)
def test_every_kind_of_column(owned, column):
    root = owned("X", "1")
    with h5py.File(root / "adata" / "S0.h5ad", "a") as h5:
        del h5["obs/patient"]
        with anndata.settings.override(allow_write_nullable_strings=True):
            write_elem(h5["obs"], "patient", column[np.arange(12) % 3])
    assert patients(root) == {"S0": "1", "S1": "1"}


def test_a_damaged_column_is_one_sentence(owned):
    root = owned("X", "1")
    with h5py.File(root / "adata" / "S0.h5ad", "a") as h5:
        h5["obs/patient/codes"][0] = 9
    with pytest.raises(UserError, match=r"Expected categories numbered from 0 to 0 in obs\['patient'\] of slide 'S0'"):
        find_sections(root)


# ---- tables beside the sections


def test_a_line_twice_that_says_the_same_is_read(owned):
    root = owned(None, None)
    (root / "sections.csv").write_text("section,patient\nS0,P1\nS1,P2\nS0,p1\nS1,\nS1.h5ad,P2\n")
    assert patients(root) == {"S0": "P1", "S1": "P2"}


@pytest.mark.parametrize(
    "content",
    [
        b"section,patient\r\nS0,Ann\r\nS1,Bo\r\n",
        b"section,patient\rS0,Ann\rS1,Bo\r",
        codecs.BOM_UTF8 + b"section;patient\r\nS0;Ann\r\nS1;Bo\r\n",
        "section\tpatient\nS0\tAnn\nS1\tBo\n".encode("utf-16"),
        b'"section", "patient"\nS0 , Ann\n "S1",  Bo\n',
        b"Section,Patient,\nS0,Ann,\n\n,,\nS1,Bo\n",
        b",sample_id,patient\n0,S0.h5ad,Ann\n1, S1,Bo\n",
    ],
    ids=["Windows", "old Mac", "semicolons", "UTF-16", "spaces", "letter case, commas, blank lines", "pandas"],
)
def test_tables_as_spreadsheets_write_them(owned, content):
    root = owned(None, None)
    (root / "sections.csv").write_bytes(content)
    assert patients(root) == {"S0": "Ann", "S1": "Bo"}


def test_a_number_that_a_spreadsheet_made_of_a_slide(tmp_path, make_slide, write_h5ad):
    for name in ("1", "02", "S3"):
        write_h5ad(tmp_path / "plain" / f"{name}.h5ad", make_slide(name, patient=None))
    (tmp_path / "plain" / "sections.csv").write_text("slide,patient\n1.0,7.0\n2,8\nS3.h5ad,9\n")
    assert patients(tmp_path / "plain") == {"1": "7", "02": "8", "S3": "9"}
    assert find_slide("2", ["02", "002"]) is None  # which of the two?


def test_hest_1k_describes_every_section_in_a_file(tmp_path, make_slide, write_h5ad):
    root = tmp_path / "hest"
    for name in ("A", "B", "C", "D"):
        write_h5ad(root / "st" / f"{name}.h5ad", make_slide(name, patient=None))
    (root / "metadata").mkdir()
    about = {
        "A": {"id": "A", "patient": "Patient 1", "dataset_title": "Breast, one"},
        "B": {"patient": 1.0, "dataset_title": None},
        "C": {"patient": float("nan"), "dataset_title": "Colon"},
    }
    for name, content in about.items():
        (root / "metadata" / f"{name}.json").write_text(json.dumps(content))
    assert {s.slide: (s.patient, s.patient_source) for s in find_sections(root)} == {
        "A": ("Breast, one / Patient 1", "metadata/A.json"),
        "B": ("1", "metadata/B.json"),
        "C": ("C", "slide name"),
        "D": ("D", "slide name"),
    }
    first = open_dataset(root, features="none")
    (root / "HEST_v1_1_0.csv").write_text('dataset_title,id,patient\n"Breast, one",A,Patient 1\nColon,B,Patient 1\n')
    with pytest.raises(UserError, match=r"'Colon / Patient 1' in HEST_v1_1_0.csv, line 3 and '1' in metadata/B.json"):
        find_sections(root)
    (root / "metadata" / "B.json").write_text(json.dumps(about["A"]))
    with pytest.raises(UserError, match=r"'Breast, one / Patient 1' in metadata/B\.json"):
        find_sections(root)
    (root / "metadata" / "B.json").unlink()
    assert patients(root) == {"A": "Breast, one / Patient 1", "B": "Colon / Patient 1", "C": "C", "D": "D"}
    assert open_dataset(root, features="none").key != first.key


def test_a_changed_description_is_another_dataset(tmp_path, make_slide, write_h5ad):
    write_h5ad(tmp_path / "st" / "A.h5ad", make_slide("A", patient=None))
    (tmp_path / "metadata").mkdir()
    keys = set()
    for name in ("P1", "P2"):
        (tmp_path / "metadata" / "A.json").write_text(json.dumps({"patient": name}))
        dataset = open_dataset(tmp_path, features="none")
        assert set(dataset.spots.patient) == {name}
        keys.add(dataset.key)
    assert len(keys) == 2


def test_obs_agrees_with_a_table_that_knows_the_study(owned):
    root = owned("Patient 1", "patient_2")
    (root / "HEST.csv").write_text("dataset_title,id,patient\nBreast,S0,Patient 1\nBreast,S1,Patient 2\n")
    assert patients(root) == {"S0": "Patient 1", "S1": "patient_2"}


def test_alike_names_come_in_groups():
    assert alike(["b", "B", "a 1", "A_1", "a-01", "c"]) == [("A_1", "a 1", "a-01"), ("B", "b")]
