"""Fetch tasks of HEST-bench through huggingface_hub."""

from __future__ import annotations

from pathlib import Path

from agl.errors import UserError
from agl.extras import need
from agl.hub import explain
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
    library = need("huggingface_hub", "for `agl download`", "hub")
    folders = []
    for name in names:
        try:
            library.snapshot_download(
                repo_id=REPOSITORY, repo_type="dataset", allow_patterns=[f"{name}/**"], local_dir=str(root)
            )
        except Exception as error:
            by_hand = f"copy the folder {name}/ of {PAGE} by hand; agl hest ROOT reads it as it is"
            raise UserError(explain(error, REPOSITORY, PAGE, by_hand)) from error
        if not (root / name).is_dir():
            raise UserError(
                f"Expected a task of {REPOSITORY}, received {name!r}, which has no files there. See {PAGE}."
            )
        read_task(root / name, root)
        folders.append(root / name)
    return folders
