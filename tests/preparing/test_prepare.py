"""Many sources: what is finished is kept, what fails leaves the others whole, nothing of others is overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anndata
import h5py
import pandas as pd
import pytest
from PIL import Image

import agl
from agl.data.reading.sections import find_sections
from agl.errors import UserError
from tests.preparing.forms import Truth, write_outs

SMALL = {"patch_um": 60, "patch_px": 24, "progress": False}


@pytest.fixture
def samples(tmp_path: Path) -> list[Path]:
    for number in range(3):
        write_outs(tmp_path / f"S{number}", Truth(side=5, seed=number))
    return [tmp_path / f"S{number}" for number in range(3)]


def stamps(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_second_call_keeps_what_is_finished(samples: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    agl.prepare(samples[:2], out, **SMALL)
    before = stamps(out)
    done = agl.prepare(samples, out, **SMALL)
    assert done.kept == ("S0", "S1")
    assert done.table.section.tolist() == ["S0", "S1", "S2"]
    after = stamps(out)
    assert {name: after[name] for name in before if name != "sections.csv"} == {
        name: stamp for name, stamp in before.items() if name != "sections.csv"
    }
    assert agl.prepare(samples[0], out, **SMALL).table.section.tolist() == ["S0", "S1", "S2"]


def test_what_changed_is_made_anew(samples: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    agl.prepare(samples[:2], out, **SMALL)
    assert agl.prepare(samples[:2], out, **SMALL | {"patch_px": 32}).kept == ()
    with Image.open(samples[0] / "slide.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(samples[0] / "slide.png")
    assert agl.prepare(samples[:2], out, **SMALL | {"patch_px": 32}).kept == ("S1",)
    (out / "patches/S1.h5").unlink()
    assert agl.prepare(samples[1], out, **SMALL | {"patch_px": 32}).kept == ()
    assert (out / "patches/S1.h5").is_file()


def test_a_section_that_fails_leaves_the_others_whole(agl, samples: list[Path], tmp_path: Path) -> None:
    matrix = samples[1] / "outs/filtered_feature_bc_matrix.h5"
    whole = matrix.read_bytes()
    matrix.write_bytes(whole[: len(whole) // 2])
    words = ["prepare", *samples, "--out", "out", "--patch-um", 60, "--patch-px", 24]
    status, out, err = agl(*words)
    assert status == 2
    assert "Wrote out: 2 sections" in out
    failed = [line for line in err.splitlines() if line.startswith("agl: S1: Expected a 10x matrix")]
    assert len(failed) == 1
    assert "Traceback" not in err
    assert sorted(p.name for p in (tmp_path / "out/adata").iterdir()) == ["S0.h5ad", "S2.h5ad"]
    assert sorted(p.name for p in (tmp_path / "out/patches").iterdir()) == ["S0.h5", "S2.h5"]
    matrix.write_bytes(whole)
    status, out, _ = agl(*words, "--json")
    assert status == 0
    assert [row["section"] for row in json.loads(out)["sections"]] == ["S0", "S1", "S2"]


def test_a_failure_in_the_middle_leaves_no_half_written_file(
    samples: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    agl.prepare(samples[0], out, **SMALL)
    before = stamps(out)

    def fail(*args, **kwargs) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agl.preparing.writing.finish", fail)
    with pytest.raises(OSError, match="No space"):
        agl.prepare(samples[0], out, **SMALL | {"patch_px": 32})
    assert stamps(out) == before


def test_what_a_killed_writer_left_is_removed(samples: list[Path], tmp_path: Path) -> None:
    import socket

    agl.prepare(samples[0], tmp_path / "out", **SMALL)
    left = tmp_path / "out/patches" / f".S0.h5.{socket.gethostname()}.999999999.tmp"
    left.write_bytes(b"half")
    agl.prepare(samples[0], tmp_path / "out", **SMALL)
    assert not left.exists()


def test_a_file_of_somebody_else_is_never_replaced(samples: list[Path], sections: Path, tmp_path: Path) -> None:
    (tmp_path / "out/adata").mkdir(parents=True)
    theirs = tmp_path / "out/adata/S0.h5ad"
    theirs.write_bytes(sorted(sections.glob("adata/*.h5ad"))[0].read_bytes())
    content = theirs.read_bytes()
    done = agl.prepare(samples[0], tmp_path / "out", **SMALL)
    assert "did not write" in done.failed["S0"]
    assert theirs.read_bytes() == content


def test_patients_come_from_a_name_a_dict_or_a_table(samples: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("section;patient\nS0;Ann\nS1;Bea\nS2;Ann\n")
    for given, expected in (
        ("Eve", ["Eve"] * 3),
        (table, ["Ann", "Bea", "Ann"]),
        ({"S0": "1", "S1": "2", "S2": "3"}, ["1", "2", "3"]),
    ):
        done = agl.prepare(samples, tmp_path / "out", patient=given, **SMALL)
        assert len(done.kept) == (0 if given == "Eve" else 3)  # another patient cuts no patches anew
        assert [section.patient for section in find_sections(tmp_path / "out")] == expected
        stored = anndata.read_h5ad(tmp_path / "out/adata/S0.h5ad")
        assert set(stored.obs["patient"]) == {expected[0]}
        assert stored.X.sum() > 0
    agl.prepare(samples, tmp_path / "out", **SMALL)
    assert [section.patient for section in find_sections(tmp_path / "out")] == ["1", "2", "3"]
    table.write_text("section,patient\nS0,Ann\n")
    with pytest.raises(UserError, match="section 'S1' has none"):
        agl.prepare(samples, tmp_path / "out", patient=table, **SMALL)


def test_the_table_says_what_became_of_each_section(samples: list[Path], tmp_path: Path) -> None:
    done = agl.prepare(samples, tmp_path / "out", patient="P", workers=2, **SMALL)
    written = pd.read_csv(tmp_path / "out/sections.csv")
    assert written.columns.tolist() == done.table.columns.tolist()
    for row in written.itertuples():
        truth = Truth(side=5, seed=int(row.section[1:]))
        assert row.spots == len(truth.kept)
        assert row.median_counts == pytest.approx(float(pd.Series(truth.counts[truth.kept].sum(axis=1)).median()))
        with h5py.File(tmp_path / f"out/patches/{row.section}.h5") as h5:
            assert h5["img"].shape == (len(truth.kept), 24, 24, 3)


def test_what_people_wrote_into_the_table_stays(samples: list[Path], sections: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    agl.prepare(samples[:2], out, **SMALL)
    stranger = sorted(sections.glob("adata/*.h5ad"))[0]
    (out / "adata/other.h5ad").write_bytes(stranger.read_bytes())
    written = pd.read_csv(out / "sections.csv")
    written["patient"], written["note"] = ["Ann", "Bea"], ["blurred", ""]
    written.loc[2, ["section", "patient"]] = ["other", "P1"]
    written.to_csv(out / "sections.csv", index=False)
    table = agl.prepare(samples, out, **SMALL).table
    assert table.section.tolist() == ["S0", "S1", "S2", "other"]
    assert table.patient.tolist() == ["Ann", "Bea", "", "P1"]
    assert table.note[0] == "blurred"
    assert [section.patient for section in find_sections(out)] == ["Ann", "Bea", "S2", "P1"]
    assert agl.prepare(samples[0], out, patient="Zoe", **SMALL).table.patient[0] == "Zoe"


def test_an_image_of_another_section_is_not_taken(samples: list[Path], tmp_path: Path) -> None:
    agl.prepare(samples[0], tmp_path / "out", **SMALL)
    (tmp_path / "images").mkdir()
    (samples[1] / "slide.png").rename(tmp_path / "images/S1.png")
    lone = tmp_path / "S0.h5ad"
    lone.write_bytes((tmp_path / "out/adata/S0.h5ad").read_bytes())
    done = agl.prepare(lone, tmp_path / "again", **SMALL)
    assert done.remarks["S0"][-1] == "There is no image: no patches were cut; name one with --image."
    assert not (tmp_path / "again/patches/S0.h5").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere", "--out", "out"], "found nothing; check the path"),
        (["empty", "--out", "out"], "which is empty"),
        (["samples", "--out", "out"], "agl prepare samples/* --out FOLDER"),
        (["notes.csv", "--out", "out"], "which is another kind of file"),
        (["S0", "S0/outs", "--out", "out"], "sections with different names"),
        (["S0", "S1", "--out", "out", "--image", "S0/slide.png"], "{section}"),
        (["S0", "--out", "out", "--image", "none.tif"], "there is no such file"),
        (["S0", "--out", "out", "--patch-um", "0"], "Expected --patch-um from 1 to 10000"),
        (["S0", "--out", "out", "--patch-px", "5000"], "Expected --patch-px from 8 to 4096"),
        (["S0", "--out", "out", "--workers", "0"], "Expected --workers from 1 to 256"),
        (["S0", "--out", "out", "--mpp", "500"], "--mpp is um per px"),
        (["S0", "--out", "out", "--patient", "who.csv"], "found no file"),
        (["S0", "--out", "notes.csv"], "a part of the path is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(agl, samples: list[Path], tmp_path: Path, words: list[str], part: str) -> None:
    (tmp_path / "empty").mkdir()
    write_outs(tmp_path / "samples/S7", Truth(side=5))
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    status, _, err = agl("prepare", *words)
    assert status == 2, err
    said = [line for line in err.splitlines() if line.startswith("agl: ")]
    assert len(said) == 1, err
    assert part in said[0], err
    assert not list(tmp_path.glob("out/adata/*"))
    assert os.listdir(tmp_path / "S0") == os.listdir(tmp_path / "S0")
