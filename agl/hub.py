"""The Hugging Face hub, where it is installed and can be reached; every way in which it fails is a sentence."""

from __future__ import annotations

import re
from pathlib import Path

from agl.errors import UserError
from agl.extras import need

SCHEME = "hf://"
OFFLINE = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError", "Timeout",
           "TimeoutException", "TransportError", "MaxRetryError"}  # fmt: skip


def fetch(address: str) -> Path:
    """The folder that `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION` names, in the hub's own cache.

    Raises:
        UserError: no such address, library, access or network.
    """
    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    check_name(repository)
    library = need("huggingface_hub", "for a model of the hub", "hub")
    try:
        return Path(library.snapshot_download(repo_id=repository, repo_type="model", revision=revision or None))
    except Exception as error:
        raise UserError(explain(error, repository, f"https://huggingface.co/{repository}")) from error


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Send a folder to a repository of models, which is made if it is not there; its address.

    Raises:
        UserError: no such address, library, access or network.
    """
    check_name(repository)
    library = need("huggingface_hub", "to send a model away", "hub")
    page = f"https://huggingface.co/{repository}"
    try:
        api = library.HfApi()
        api.create_repo(repo_id=repository, repo_type="model", private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, repo_type="model", folder_path=str(folder))
    except Exception as error:
        raise UserError(explain(error, repository, page)) from error
    return page


def check_name(repository: str) -> None:
    """OWNER/NAME."""
    parts = repository.split("/")
    if len(parts) != 2 or not all(re.fullmatch(r"[A-Za-z0-9_][\w.-]*", part) for part in parts):
        raise UserError(f"Expected OWNER/NAME on the hub, received {repository!r}. Write {SCHEME}lab/my-model.")


def explain(error: Exception, repository: str, page: str, way_out: str = "copy the folder by hand") -> str:
    """One sentence for what went wrong, by the kind of error and the status of the answer."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "GatedRepoError" in kinds or status == 403:
        return (
            f"{repository} is gated and this account has no access yet. Ask for it at {page}, then run "
            "`hf auth login` (or set HF_TOKEN) and the same command again."
        )
    if "RepositoryNotFoundError" in kinds or status == 401:
        return f"{repository} wants a login. Ask for access at {page}, then run `hf auth login` or set HF_TOKEN."
    if kinds & OFFLINE:
        return f"The network could not be reached for {repository}. On a machine without one, {way_out}."
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"{repository} could not be written: {error.strerror or error}. What is there is kept; try the same "
            "command."
        )
    return (
        f"{repository} could not be reached ({type(error).__name__}: {error}). The same command goes on where it "
        "stopped."
    )
