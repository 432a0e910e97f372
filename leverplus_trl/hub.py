# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Sharing on the hub: checks before long work that a repository can be written to, and pushes in one commit."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id


if TYPE_CHECKING:  # loading it takes longer than everything here
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)

#: In the snippets of a card, until its folder has a name on the hub.
PLACEHOLDER = "PATH_OR_HUB_ID"
CARD = "README.md"
#: Files of a selector's folder that are pushed: no checkpoints, no logs, no locks.
SELECTOR_FILES = (
    *(CARD, "config.json", "*.safetensors", "*.safetensors.index.json", "processor_config.json"),
    *("recipe.yaml", "provenance.json", "trainer_state.json", "encoder/*"),
)


def check_repo_id(repo_id: str) -> None:
    """Raises `ValueError` if this can't be the name of a repository."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"push_to_hub is {repo_id!r}; expected a repository, user/name ({error}).") from error
    if "/" not in repo_id:
        raise ValueError(f"push_to_hub is {repo_id!r}; expected the whole name of a repository: user/name.")


def check_writable(repo_id: str, repo_type: str, private: bool | None = None, token: str | None = None) -> str:
    """
    Creates a repository of a type, `"model"` or `"dataset"`, if there is none, and checks that it can be written to.

    Returns the whole name, `user/name`; without a user in `repo_id`, the owner is the user of the token, by default
    that of the login. Raises `ValueError` with the answer of the hub if it can't be written to.
    """
    api = HfApi(token=token)
    try:
        whole = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
        # `create_repo` does not check that an existing repository can be written to.
        api.auth_check(whole, repo_type=repo_type, write=True)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(_cannot_push(repo_id, repo_type, error)) from error
    return whole


def _cannot_push(repo_id: str, repo_type: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    answer = getattr(error, "server_message", None)
    reason = f"{status} {answer}" if answer else " ".join(str(error).split())
    if status == 401:
        advice = "Log in with a token that may write (`hf auth login`, or set HF_TOKEN)"
    elif status in (403, 404):
        advice = "Name a repository that this token may write to"
    else:
        advice = "Check the name, the connection and HF_ENDPOINT"
    where = f"Can't push to the {repo_type} repository {repo_id!r}"
    return f"{where}: {reason.rstrip('.')}. {advice}, or leave push_to_hub out."


def push_files(
    files: Mapping[str, Path],
    repo_id: str,
    repo_type: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    replaces: tuple[str, ...] = (),
    message: str = "Upload with leverplus_trl",
) -> CommitInfo:
    """
    Pushes files in one commit, so that a repository never holds half of them; its name goes into the card's snippets.

    `files` is `{path in the repository: local file}`. The branch `revision` is created if there is none. Other files
    whose paths begin with one of `replaces` are deleted in the same commit. For the rest, see [`check_writable`].
    """
    whole = check_writable(repo_id, repo_type, private, token)
    api, branch = HfApi(token=token), {"repo_type": repo_type, "revision": revision}
    operations: list = []
    for name, path in files.items():
        content = str(path)
        if name == CARD:
            content = path.read_text(encoding="utf-8").replace(PLACEHOLDER, whole).encode()
        operations.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content))
    try:
        if revision is not None:
            api.create_branch(whole, branch=revision, repo_type=repo_type, exist_ok=True)
        old = [name for name in api.list_repo_files(whole, **branch) if name.startswith(replaces)] if replaces else []
        operations += [CommitOperationDelete(path_in_repo=name) for name in old if name not in files]
        commit = api.create_commit(whole, operations, commit_message=message, **branch)
    except (HfHubHTTPError, OSError) as error:
        raise ValueError(_cannot_push(whole, repo_type, error)) from error
    logger.info("The %s repository %s holds it: %s", repo_type, whole, commit.commit_url)
    return commit


def push_selector(folder: Path, repo_id: str, **kwargs) -> CommitInfo:
    """
    Pushes the folder of a selector: weights, configs, processor, card and provenance, but no checkpoints.

    `**kwargs` are `private`, `token`, `revision` and `message` of [`push_files`]. Raises `ValueError` if the folder is
    not whole, or the repository can't be written to.
    """
    paths = [path for pattern in SELECTOR_FILES for path in sorted(folder.glob(pattern))]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    for name in (CARD, "config.json", "processor_config.json"):
        if name not in files:
            raise ValueError(f"{str(folder)!r} has no {name}: it does not hold a whole selector that could be pushed.")
    return push_files(files, repo_id, "model", **kwargs)


def _run_repository(args: "TrainingArguments") -> str:
    """The model repository of a training run: `hub_model_id`, or else the name of the output folder."""
    return args.hub_model_id or Path(args.output_dir).absolute().name


def check_run_writable(args: "TrainingArguments") -> None:
    """Raises `ValueError` if the selector of a training run could not be pushed."""
    check_writable(_run_repository(args), "model", args.hub_private_repo, args.hub_token)


def push_run(args: "TrainingArguments", **kwargs) -> CommitInfo:
    """
    Pushes the selector in the output folder of a training run, as its `hub_` arguments say, or else `**kwargs`
    (`private`, `token`, `revision` and `message` of [`push_files`]). A selector that the hub has already makes no new
    commit.
    """
    where = {"private": args.hub_private_repo, "token": args.hub_token, "revision": args.hub_revision}
    return push_selector(Path(args.output_dir), _run_repository(args), **{**where, **kwargs})
