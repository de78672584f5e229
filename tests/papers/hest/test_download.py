"""Fetching with a hub that tests make, and every way it can fail."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest


class Hub(ModuleType):
    """Copies from a folder as `snapshot_download` does, or raises."""

    def __init__(self, source: Path | None = None, error: Exception | None = None) -> None:
        super().__init__("huggingface_hub")
        self.source, self.error, self.asked = source, error, []

    def snapshot_download(self, *, repo_id, repo_type, allow_patterns, local_dir):
        self.asked.append((repo_id, repo_type, allow_patterns))
        if self.error is not None:
            raise self.error
        task = allow_patterns[0].split("/")[0]
        if self.source is not None and (self.source / task).is_dir():
            shutil.copytree(self.source / task, Path(local_dir) / task, dirs_exist_ok=True)


def refused(name: str, status: int | None = None) -> Exception:
    error = type(name, (Exception,), {})("no")
    error.response = SimpleNamespace(status_code=status)
    return error


def test_a_task_is_fetched_and_can_be_read(agl, made, tmp_path, monkeypatch):
    hub = Hub(made / "bench")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    code, out, err = agl("download", "hest", "--task", "idc", "--root", tmp_path / "b")
    assert code == 0, err
    assert out.strip() == f"Wrote {tmp_path / 'b' / 'IDC'}"
    assert hub.asked == [("MahmoodLab/hest-bench", "dataset", ["IDC/**"])]
    code, out, err = agl(
        "hest", tmp_path / "b", "--embeddings", made / "embeddings", "--encoder", "uni_v1", "--task", "IDC"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refused("GatedRepoError", 403), "is gated"),
        (refused("HfHubHTTPError", 403), "is gated"),
        (refused("RepositoryNotFoundError", 401), "wants a login"),
        (refused("LocalEntryNotFoundError"), "The network could not be reached"),
        (ConnectionError("refused"), "The network could not be reached"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("odd"), "could not be reached (ValueError: odd)"),
    ],
)
def test_each_failure_has_its_sentence(agl, tmp_path, monkeypatch, error, said):
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(error=error))
    code, _, err = agl("download", "hest", "--task", "IDC", "--root", tmp_path / "b")
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_without_the_package(agl, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, err = agl("download", "hest", "--task", "IDC")
    assert code == 2
    assert "pip install 'agl[hub]'" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hest"], "received none"),
        (["hest1k", "--task", "IDC"], "agl download hest"),
        (["hest", "--task", "XYZ"], "Expected tasks among IDC"),
        (["hest", "--task", "SKCM"], "received 'SKCM', which has no files there"),
    ],
)
def test_mistakes(agl, made, tmp_path, monkeypatch, words, said):
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(made / "bench"))
    code, _, err = agl("download", *words, "--root", tmp_path / "b")
    assert code == 2
    assert said in err


def test_a_fetch_that_left_something_out_is_not_called_done(agl, made, tmp_path, monkeypatch):
    source = Path(shutil.copytree(made / "bench", tmp_path / "source"))
    (source / "IDC" / "adata" / "TENX95.h5ad").unlink()
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(source))
    code, _, err = agl("download", "hest", "--task", "IDC", "--root", tmp_path / "b")
    assert code == 2
    assert "Expected adata/TENX95.h5ad" in err
