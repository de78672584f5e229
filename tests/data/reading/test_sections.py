"""Folders in every layout, and whose section is whose."""

from __future__ import annotations

import pytest

from agl.data.dataset import open_dataset
from agl.data.reading.sections import find_sections
from agl.errors import UserError


def patients(root, **options):
    return {s.slide: (s.patient, s.patient_source) for s in find_sections(root, **options)}


@pytest.fixture
def anonymous(make_slide):
    return [make_slide("S1", patient=None), make_slide("S2", patient=None)]


def test_hest_bench_folder(task):
    root, _ = task()
    found = find_sections(root)
    assert [(s.slide, s.patient, s.patient_source) for s in found] == [
        ("S1", "P1", "obs['patient']"),
        ("S2", "P2", "obs['patient']"),
    ]
    assert [s.patches for s in found] == [root / "patches" / "S1.h5", root / "patches" / "S2.h5"]


def test_plain_folder_and_single_file(tmp_path, make_slide, write_h5ad, write_patches):
    slide = make_slide("S1")
    path = write_h5ad(tmp_path / "plain" / "S1.h5ad", slide)
    write_patches(tmp_path / "plain" / "patches" / "S1.h5", slide)
    for root in (tmp_path / "plain", path):
        (section,) = find_sections(root)
        assert section.counts == path
        assert section.patches == tmp_path / "plain" / "patches" / "S1.h5"
        assert len(open_dataset(root, features="none")) == 12


def test_hest_1k_folder_with_its_table(tmp_path, anonymous, write_h5ad):
    for slide in anonymous:
        write_h5ad(tmp_path / "hest" / "st" / f"{slide.name}.h5ad", slide)
    table = tmp_path / "hest" / "HEST_v1_1_0.csv"
    rows = 'dataset_title,id,patient\n"Breast, one",S1,Patient 1\nColon,S2,Patient 1\nColon,not_here,Patient 9\n'
    table.write_text(rows, encoding="utf-8-sig")  # starts with a byte order mark, like HEST's
    assert patients(tmp_path / "hest") == {
        "S1": ("Breast, one / Patient 1", "HEST_v1_1_0.csv"),
        "S2": ("Colon / Patient 1", "HEST_v1_1_0.csv"),
    }
    table.write_text("id,patient\nS1,\nS2,Bo\n", encoding="utf-8-sig")
    assert patients(tmp_path / "hest") == {"S1": ("S1", "slide name"), "S2": ("Bo", "HEST_v1_1_0.csv")}
    dataset = open_dataset(tmp_path / "hest", features="none")
    assert "S1: No patient known, counts as its own; add obs['patient'] or sections.csv." in dataset.report["warnings"]


def test_sections_csv_before_metadata(task, anonymous, tmp_path):
    root, _ = task(anonymous)
    assert patients(root) == {"S1": ("S1", "slide name"), "S2": ("S2", "slide name")}
    (root / "sections.csv").write_text("section,patient\nS1,Ann\n", encoding="utf-8-sig")
    elsewhere = tmp_path / "people.csv"
    elsewhere.write_text("sample_id,patient\nS1,ann\nS2,Bo\n")
    found = patients(root, metadata=elsewhere)
    assert found == {"S1": ("Ann", "sections.csv"), "S2": ("Bo", "people.csv")}


def test_patient_as_categories_strings_or_old_codes(task, tmp_path):
    import h5py

    root, _ = task()
    with h5py.File(root / "adata" / "S1.h5ad", "a") as h5:
        del h5["obs/patient"]
        h5["obs/patient"] = ["Cy"] * 12
    assert patients(root)["S1"] == ("Cy", "obs['patient']")
    with h5py.File(root / "adata" / "S1.h5ad", "a") as h5:
        del h5["obs/patient"]
        h5["obs/patient"] = [1] * 12
        h5["obs/__categories/patient"] = ["unused", "Di"]
    assert patients(root)["S1"] == ("Di", "obs['patient']")


def test_chosen_sections(task):
    root, _ = task()
    assert [s.slide for s in find_sections(root, sections=["S2"])] == ["S2"]
    assert open_dataset(root, features="uni", sections=("S2",)).slide_names == ("S2",)
    with pytest.raises(UserError, match=r"received 'S3'. Known: S1, S2\."):
        find_sections(root, sections=["S3"])
    with pytest.raises(UserError, match=r"Expected a list of slide names, received 'S1'; for example \['S1'\]"):
        find_sections(root, sections="S1")
