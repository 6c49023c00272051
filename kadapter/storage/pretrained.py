"""What transformers loads: configurations, tokenizers and models, by folder or hub name, strictly.

transformers warns where weights are missing and lets a damaged file raise whatever its reader raises. Here both are
errors of one sentence that name the file.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import get_checkpoint_shard_files

from kadapter.configuration import KAdapterConfig
from kadapter.storage.checkpoint import check_finite, check_shape, module_key, read_state_dict
from kadapter.storage.hub import HUB_ARGUMENTS, cached, hub_options, reach
from kadapter.storage.model_files import AGAIN, check_links, check_readable, naming_files
from kadapter.storage.quantised import of_backbone_alone, say_of_backbone
from kadapter.storage.reading import check_link

# Of the arguments of `from_pretrained`, those that a configuration may have a value of too, or hides from the model.
NOT_OF_CONFIGURATIONS = ("dtype", "torch_dtype", "quantization_config", "proxies", "trust_remote_code", "code_revision")
# Files of weights, of which transformers takes the first kind that is there.
WEIGHTS = re.compile(r"config\.json|model.*\.safetensors|pytorch_model.*\.bin|.*\.index\.json")
TOKENIZER = re.compile(r"config\.json|(special_tokens_map|added_tokens|tokenizer|tokenizer_config|vocab)\.json")
Shapes = dict[str, list[int]]  # of tensors, by name


@contextmanager
def without_transformers_warnings() -> Iterator[None]:
    """Without the table of keys by which transformers tells of the pooler and of unused heads at each loading."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


# -- configurations and tokenizers ------------------------------------------------------------------------------


def read_config(source: str | os.PathLike, **options: Any) -> PreTrainedConfig:
    """The configuration of a model of ours or of transformers; `options` as AutoConfig takes them.

    Raises:
        OSError, ValueError: not there, or damaged; named, which transformers' own error may not be.
    """
    check_link(source)
    check_link(Path(source) / (options.get("subfolder") or "") / "config.json")
    options = reach(source, options)
    with naming_files(source, options):
        try:
            return AutoConfig.from_pretrained(source, **options)
        except OSError as error:
            if str(source) in str(error):
                raise
            mend = "give the folder of a model that is on this machine, or connect it to the network"
            raise OSError(f"the model {source} cannot be loaded; {mend} ({error}).") from error


def read_overridden(
    source: str | os.PathLike, config: PreTrainedConfig | str | os.PathLike | None, options: Mapping[str, Any]
) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """The configuration of a model with the settings that `options` change, and the rest of them, for the weights.

    Args:
        config: in place of the saved one, as in transformers: taken as it is, so that no option changes a setting; or
            where to read it.

    Raises:
        OSError, ValueError: as `read_config`; or a setting of a kind or a size that cannot be.
    """
    if isinstance(config, PreTrainedConfig):
        return config, dict(options)
    kept = {name: options[name] for name in (*HUB_ARGUMENTS, *NOT_OF_CONFIGURATIONS) if name in options}
    given = {name: value for name, value in options.items() if name not in NOT_OF_CONFIGURATIONS}
    found: Any = read_config(source if config is None else config, **given, return_unused_kwargs=True)
    return found[0], {**found[1], **kept}


def read_tokenizer(source: str | os.PathLike, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub repository; `options` as AutoTokenizer takes them.

    Raises:
        OSError, ValueError: not there, damaged, or without a vocabulary, where transformers would make an empty one.
    """
    check_links(source, options, TOKENIZER)
    options = reach(source, options)
    with naming_files(source, options):
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens):
            raise ValueError(f"{source} has no vocabulary; put tokenizer.json there, or name another tokenizer.")
        return tokenizer


def padded(tokenizer: Any) -> Any:
    """The tokenizer with a token to pad with, which decoders' have none of; what is padded with is masked anyway."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token
    return tokenizer


# -- models -----------------------------------------------------------------------------------------------------


def load_backbone(source: str | os.PathLike, **options: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """An encoder of transformers with all its weights, and what transformers says of the loading.

    Only a pooler may be fresh, which `fresh_pooler` of its configuration tells.

    Raises:
        ValueError: weights are missing, misshapen or not finite, of which transformers would only warn.
    """
    config = options.get("config")
    check_links(source, options, WEIGHTS)
    options = of_backbone_alone(reach(source, options))
    with naming_files(source, options), without_transformers_warnings():
        if config is not None and type(config) in MODEL_MAPPING:
            _check_sizes(lambda: AutoModel.from_config(copy.deepcopy(config)), config, source, options)
        backbone, info = AutoModel.from_pretrained(source, output_loading_info=True, **options)
        # Heads are left out; bottlenecks would be missed, and config.json of an encoder cannot tell of them.
        lost = [key for key in info["unexpected_keys"] if ".bottlenecks." in key or ".norms." in key]
        _check_loaded(backbone, info, source, lost, fresh=("pooler.",))
    # Kept in the configuration, so that a saved encoder tells it too.
    backbone.config.fresh_pooler = any(key.startswith("pooler.") for key in info["missing_keys"])
    return backbone, info


def load_saved(
    cls: type[PreTrainedModel],
    load: Callable[..., Any],
    source: str | os.PathLike,
    config: KAdapterConfig,
    **options: Any,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model of ours that was saved whole, and what transformers says of the loading.

    Args:
        cls, load: the model's class and the `from_pretrained` of transformers for it.

    Raises:
        ValueError: the configuration is not that of these weights, or they are missing, unexpected, misshapen or not
            finite. The head of a task model is not asked for by an encoder alone.
    """
    check_links(source, options, WEIGHTS)
    options = of_backbone_alone(reach(source, options), lambda: cls(copy.deepcopy(config)))  # type: ignore[arg-type]
    with naming_files(source, {**options, "config": config}):
        _check_sizes(lambda: cls(copy.deepcopy(config)), config, source, options)  # type: ignore[arg-type]
        with without_transformers_warnings():
            model, info = load(source, config=config, output_loading_info=True, **options)
        say_of_backbone(model)
        unexpected = [key for key in info["unexpected_keys"] if not key.startswith("head.")]
        _check_loaded(model, info, source, unexpected)
        return model, info


def _check_loaded(
    model: PreTrainedModel,
    info: Mapping[str, Iterable[Any]],
    source: str | os.PathLike,
    unexpected: Sequence[str] = (),
    fresh: tuple[str, ...] = (),
) -> None:
    lacking = sorted(key for key in info["missing_keys"] if not (fresh and key.startswith(fresh)))
    lacking += sorted(str(key) for key in info["mismatched_keys"])
    if lacking:
        raise ValueError(
            f"{source} lacks weights of a {type(model).__name__}: {', '.join(lacking[:8])}"
            f"{', ...' if len(lacking) > 8 else ''}; give a complete checkpoint of this architecture."
        )
    if unexpected:
        raise ValueError(
            f"{source} holds weights that its config.json does not tell of: {', '.join(sorted(unexpected)[:8])}"
            f"{', ...' if len(unexpected) > 8 else ''}; take both from the same save, of a whole model where it has "
            "bottlenecks."
        )
    check_finite(model.state_dict(), source)


def _check_sizes(
    build: Callable[[], nn.Module], config: PreTrainedConfig, source: str | os.PathLike, options: Mapping[str, Any]
) -> None:
    """Compare a configuration with the shapes in the weights' headers before anything is allocated.

    First what a configuration could ask for in any number (layers), then each tensor, on the meta device.
    """
    shapes = _shapes(source, hub_options(options))
    if getattr(config, "quantization_config", None) is not None:
        return  # numbers of few bits are packed, into shapes that are the quantiser's own matter
    if not shapes or options.get("ignore_mismatched_sizes"):
        return
    place = f"{source}, config.json"
    depth = config.num_hidden_layers
    if depth > len(shapes):
        raise ValueError(f"{place}: num_hidden_layers is {depth}, but the weights hold {len(shapes)} tensors; {AGAIN}")
    if isinstance(config, KAdapterConfig):
        outer = "encoder." if any(name.startswith("encoder.adapters.") for name in shapes) else ""
        for name in config.adapters:
            check_shape(config.adapter_config(name), shapes, place, source, f"{outer}adapters.{module_key(name)}.")
    with torch.device("meta"):
        model = build()
    outer = f"{getattr(model, 'base_model_prefix', '')}."
    wrong = [
        f"{name} ({list(value.shape)} instead of {found})"
        for name, value in model.state_dict().items()
        for key in {name, name.removeprefix(outer), outer + name}
        if (found := shapes.get(key)) not in (None, list(value.shape))
    ]
    if wrong:
        raise ValueError(
            f"{place} does not describe its weights: {', '.join(wrong[:3])}; take both from the same save."
        )


def _shapes(source: str | os.PathLike, hub: Mapping[str, Any]) -> Shapes:
    """Shapes of all tensors in a repository's weights; {} where it has none under transformers' own names."""
    for whole, parts in ((SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME), (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)):
        if (path := cached(source, whole, hub)) is not None:
            return _header(path)
        if (index := cached(source, parts, hub)) is not None:
            check_readable(index) if Path(source).is_dir() else None
            paths, _ = get_checkpoint_shard_files(source, str(index), **hub)
            return {name: shape for path in paths for name, shape in _header(Path(path)).items()}
    return {}


def _header(path: Path) -> Shapes:
    try:
        if path.suffix == ".bin":  # whose tensors are read without their values
            state = torch.load(path, map_location="meta", weights_only=True)
            return {name: list(value.shape) for name, value in state.items()}
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  # is no mapping
    except Exception:  # as many kinds as there are damages
        read_state_dict(path)  # says it better
        raise
