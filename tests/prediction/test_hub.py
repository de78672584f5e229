"""Models on a hub that the tests make: sent, fetched, and every way in which it fails."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import agl as package
from agl.runs.folder import Run
from agl.runs.model import model_of

RunOf = Callable[[str], Run]


class Hub(ModuleType):
    """Keeps repositories in a folder, as `huggingface_hub` does elsewhere, or raises."""

    def __init__(self, place: Path, error: Exception | None = None) -> None:
        super().__init__("huggingface_hub")
        self.place, self.error, self.private = place, error, {}

    def HfApi(self) -> Hub:
        return self

    def create_repo(self, *, repo_id: str, repo_type: str, private: bool, exist_ok: bool) -> None:
        assert (repo_type, exist_ok) == ("model", True)
        if self.error is not None:
            raise self.error
        self.private[repo_id] = private

    def upload_folder(self, *, repo_id: str, repo_type: str, folder_path: str) -> None:
        shutil.copytree(folder_path, self.place / repo_id)

    def snapshot_download(self, *, repo_id: str, repo_type: str, revision: str | None) -> str:
        if self.error is not None:
            raise self.error
        return str(self.place / repo_id if revision is None else self.place / f"{repo_id}@{revision}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return made


def refused(name: str, status: int | None = None) -> Any:
    error: Any = type(name, (Exception,), {})("no")
    error.response = SimpleNamespace(status_code=status)
    return error


def test_a_model_goes_there_and_comes_back(hub: Hub, run_of: RunOf, sections: Path) -> None:
    slide, model = next((sections / "adata").glob("*.h5ad")), model_of(run_of("ridge"))
    assert model.push("lab/model") == "https://huggingface.co/lab/model"
    assert hub.private == {"lab/model": True}
    assert (hub.place / "lab" / "model" / "README.md").is_file()  # the card is what the page shows
    shutil.copytree(hub.place / "lab" / "model", hub.place / "lab" / "model@v2")
    for address in ("hf://lab/model", "hf://lab/model@v2"):
        again = package.load_model(address)
        np.testing.assert_array_equal(*(m.predict(slide).layers["agl_score"] for m in (model, again)))


def test_the_commands(agl: Callable, hub: Hub, run_of: RunOf, sections: Path, tmp_path: Path) -> None:
    slide, run = next((sections / "adata").glob("*.h5ad")), run_of("ridge").folder
    status, out, err = agl("export", run, "--out", tmp_path / "m", "--push", "lab/model", "--public")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "Sent to https://huggingface.co/lab/model"
    assert hub.private == {"lab/model": False}
    assert agl("predict", "hf://lab/model", slide, "--out", tmp_path / "x.h5ad")[0] == 0
    status, _, err = agl("export", run, "--out", tmp_path / "n", "--push", "nobody")
    assert (status, "Expected OWNER/NAME on the hub, received 'nobody'" in err) == (2, True)
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refused("GatedRepoError", 403), "lab/model is gated"),
        (refused("RepositoryNotFoundError", 401), "lab/model wants a login"),
        (ConnectionError("refused"), "The network could not be reached for lab/model"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("odd"), "could not be reached (ValueError: odd)"),
    ],
)
def test_each_failure_has_its_sentence(hub: Hub, run_of: RunOf, error: Exception, said: str) -> None:
    hub.error = error
    for asked in (lambda: package.load_model("hf://lab/model"), lambda: model_of(run_of("ridge")).push("lab/model")):
        with pytest.raises(package.UserError) as caught:
            asked()
        assert said in str(caught.value)


def test_without_the_library(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(package.UserError, match=r"pip install 'agl\[hub\]'"):
        package.load_model("hf://lab/model")


@pytest.mark.parametrize("name", ["hf://", "hf://lab", "hf://lab/a/b", "hf://../x", "hf://lab/mo del", "hf://lab/"])
def test_what_is_no_address(hub: Hub, name: str) -> None:
    with pytest.raises(package.UserError, match="Expected OWNER/NAME on the hub"):
        package.load_model(name)
