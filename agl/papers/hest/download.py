"""Fetch tasks of HEST-bench through huggingface_hub."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from agl.errors import UserError
from agl.papers.hest.folders import read_task
from agl.papers.hest.published import TASKS, task_name

REPOSITORY = "MahmoodLab/hest-bench"
PAGE = f"https://huggingface.co/datasets/{REPOSITORY}"


def download(tasks: list[str], root: Path) -> list[Path]:
    """Fetch whole tasks into `root/<TASK>`; files that are there and whole are kept, an interrupted fetch goes on.

    Args:
        tasks: names as in the benchmark; spelling does not matter.

    Returns:
        The folders, each with its folds, counts and genes in place.

    Raises:
        UserError: no huggingface_hub, no access, no network, no such task.
    """
    known = [*TASKS, "HCC"]
    names = [task_name(task) for task in tasks]
    for given, name in zip(tasks, names, strict=True):
        if name not in known:
            raise UserError(f"Expected tasks among {', '.join(known)}, received {given!r}.")
    hub = _hub()
    folders = []
    for name in names:
        try:
            hub.snapshot_download(
                repo_id=REPOSITORY, repo_type="dataset", allow_patterns=[f"{name}/**"], local_dir=str(root)
            )
        except Exception as error:
            raise UserError(_explain(error, name)) from error
        if not (root / name).is_dir():
            raise UserError(
                f"Expected a task of {REPOSITORY}, received {name!r}, which has no files there. See {PAGE}."
            )
        read_task(root / name, root)
        folders.append(root / name)
    return folders


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError:
        raise UserError(
            "Expected huggingface_hub for `agl download`, found none. Install it: pip install 'agl[hub]'."
        ) from None


def _explain(error: Exception, task: str) -> str:
    """One sentence for what went wrong, by the kind of error and the status of the answer."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "GatedRepoError" in kinds or status == 403:
        return (
            f"{REPOSITORY} is gated and this account has no access yet. Ask for it at {PAGE}, then run "
            "`hf auth login` (or set HF_TOKEN) and the same command again."
        )
    if "RepositoryNotFoundError" in kinds or status == 401:
        return f"{REPOSITORY} wants a login. Ask for access at {PAGE}, then run `hf auth login` or set HF_TOKEN."
    offline = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError", "Timeout"}
    if kinds & (offline | {"TimeoutException", "TransportError", "MaxRetryError"}):
        return (
            f"The network could not be reached for {task}. On a machine without one, copy the folder {task}/ of {PAGE} "
            "by hand; agl hest ROOT reads it as it is."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"{task} could not be written: {error.strerror or error}. What is there is kept; try the same command."
    return f"{task} could not be fetched ({type(error).__name__}: {error}). The same command goes on where it stopped."
