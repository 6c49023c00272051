"""The hub of models: what of it is on this machine, and whether it can be reached at all.

transformers and huggingface_hub ask again for about 25 seconds, one file after the other, where a hub does not answer,
even for files that are only perhaps there (chat templates of a tokenizer). That is right for a slow hub and wrong where
there is no network, so the connection alone is tried first.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import get_session, validate_repo_id
from transformers.utils import cached_file

HUB_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only", "force_download", "subfolder")
OF_MODELS = ("config.json", "tokenizer_config.json")
# Seconds to wait for a connection, unless HF_HUB_ETAG_TIMEOUT is set; between two tries; and that a result holds.
PATIENCE, PAUSE, HOLDS = 3.0, 1.0, 60.0
logger = logging.getLogger(__name__)
_known: dict[str, tuple[float, str]] = {}  # address -> when it was tried, why it could not be reached


def hub_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that tell where on the hub, or in its cache, a file is."""
    return {name: options[name] for name in HUB_ARGUMENTS if options.get(name) is not None}


def cached(source: str | os.PathLike, name: str, hub: Mapping[str, Any]) -> Path | None:
    """The file `name` of a folder or a hub repository, fetched if need be; None where it is not there."""
    found = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
        **hub,
    )
    return None if found is None else Path(found)


def on_this_machine(source: str | os.PathLike, names: Sequence[str], hub: Mapping[str, Any]) -> Path | None:
    """The first of the files `names` that a folder or the hub's cache has; nothing is fetched."""
    local = {**hub_options(hub), "local_files_only": True, "force_download": False}
    return next((path for name in names if (path := cached(source, name, local)) is not None), None)


def reach(
    source: str | os.PathLike, options: Mapping[str, Any], what: str = "model", names: Sequence[str] = OF_MODELS
) -> dict[str, Any]:
    """The options to load a folder or hub name with: of its cache alone where the hub cannot be reached.

    Args:
        options: of `from_pretrained`.
        names: files of which a repository of this kind has one.

    Raises:
        FileNotFoundError: no such folder, and no name that a repository could have.
        ConnectionError: the hub cannot be reached, and its cache does not have the repository.
    """
    if os.path.exists(source):
        return dict(options)
    try:
        validate_repo_id(str(source))
    except HFValidationError:
        raise FileNotFoundError(f"the {what} {source} is not there; give a folder, or a name on the hub.") from None
    if options.get("local_files_only") or constants.HF_HUB_OFFLINE:
        return dict(options)
    reason = unreachable()
    if not reason:
        return dict(options)
    if options.get("force_download") or on_this_machine(source, names, options) is None:
        raise ConnectionError(
            f"the {what} {source} is neither a local folder nor in the hub's cache, and {constants.ENDPOINT} cannot be "
            f"reached ({reason}); give a local folder, or run `hf download {source}` where there is a network and "
            "copy the cache (HF_HOME) here."
        )
    return {**options, "local_files_only": True}


def unreachable() -> str:
    """Why no connection to the hub can be made, after two tries; "" where one can, however slow the answer is.

    A result holds for a minute, so that loading many files asks once.
    """
    address = constants.ENDPOINT
    tried, reason = _known.get(address, (-HOLDS, ""))
    if time.monotonic() - tried >= HOLDS:
        reason = _refusal(address)
        if reason:
            time.sleep(PAUSE)  # a network that is just coming up
            reason = _refusal(address)
        if reason:
            logger.warning("%s cannot be reached (%s): models are read from its cache.", address, reason)
        _known[address] = (time.monotonic(), reason)
    return reason


def _refusal(address: str) -> str:
    patience = constants.HF_HUB_ETAG_TIMEOUT if os.environ.get("HF_HUB_ETAG_TIMEOUT") else PATIENCE
    try:
        get_session().head(address, timeout=patience)  # whatever it answers
    except Exception as error:  # of httpx or httpx2, by the version of huggingface_hub
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & {"ConnectError", "ConnectTimeout", "ProxyError"}:
            return str(error) or "no answer"
    return ""
