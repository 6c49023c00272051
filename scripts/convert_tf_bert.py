"""Turn a TensorFlow checkpoint of BERT into a folder of transformers, once, for everything here that takes a backbone.

    pip install kadapter[tf]                       # tensorflow, for this script alone
    python scripts/convert_tf_bert.py --input uncased_L-12_H-768_A-12 --output pretrained_models/bert-base-uncased

Reads `bert_model.ckpt.*`, `bert_config.json` and `vocab.txt`; writes config.json, model.safetensors and the tokenizer.
The encoder with its pooler is kept; pretraining's heads and the optimizer's variables are left out and counted. What
is missing, unknown or of another shape than the configuration says ends the conversion, and nothing is written.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import read_lines
from kadapter.storage import checkpoint
from kadapter.storage.files import atomic_folder
from kadapter.storage.reading import read_object

CONFIG, VOCABULARY = "bert_config.json", "vocab.txt"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LEFT_OUT = {  # what stands in a checkpoint beside the encoder
    "the optimizer's": re.compile(r".*/(adam_[mv]|AdamWeightDecayOptimizer.*)$|global_step$|beta[12]_power$"),
    "pretraining's heads": re.compile(r"cls/"),
}
LEAVES = {"kernel": "weight", "gamma": "weight", "beta": "bias"}  # TensorFlow's name -> PyTorch's


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    reader = open_checkpoint(args.input / args.checkpoint)
    count = convert(args.input, args.output, reader.get_variable_to_shape_map(), partial(read_variable, reader))
    print(f"{args.output}: BERT with {count:,} parameters")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "--input", type=absolute, required=True, help="folder with checkpoint, bert_config.json, vocab.txt"
    )
    parser.add_argument("--output", type=absolute, required=True, help="folder to write")
    parser.add_argument("--checkpoint", default="bert_model.ckpt", help="name of the checkpoint in the folder")
    return parser.parse_args(argv)


def open_checkpoint(prefix: Path):
    """TensorFlow's reader of the checkpoint whose files begin with `prefix`."""
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        raise FileNotFoundError(
            f"{prefix}.index is missing; give the folder of the checkpoint, or its --checkpoint name."
        )
    try:
        import tensorflow as tf
    except ImportError:
        raise ImportError("this script needs tensorflow; run pip install kadapter[tf].") from None
    try:
        return tf.train.load_checkpoint(str(prefix))
    except tf.errors.OpError as error:
        raise ValueError(f"{prefix} cannot be read ({error.message}); fetch it again.") from None


def read_variable(reader: Any, name: str) -> np.ndarray:
    try:
        return reader.get_tensor(name)
    except Exception as error:  # TensorFlow's own classes
        raise ValueError(
            f"the checkpoint's variable {name} cannot be read ({type(error).__name__}); fetch the checkpoint again."
        ) from None


def convert(source: Path, output: Path, names: Iterable[str], read: Callable[[str], np.ndarray]) -> int:
    """Write the folder; returns the number of parameters.

    Args:
        names, read: the checkpoint's variables, and how to get one.
    """
    config, vocabulary = read_config(source / CONFIG), read_vocabulary(source / VOCABULARY)
    if len(vocabulary) != config.vocab_size:
        raise ValueError(
            f"{source / VOCABULARY} has {len(vocabulary)} tokens, but {CONFIG} says {config.vocab_size}; "
            "take both from the same model."
        )
    model = BertModel(config)
    state, left_out = to_state(names, read)
    checkpoint.check_finite(state, source)
    checkpoint.load_strict(model, state, source)
    # A cased model's vocabulary is told by its capitals.
    cased = any(token != token.lower() for token in vocabulary if token not in SPECIAL and token[0] != "[")
    tokenizer = BertTokenizer(
        vocab=vocabulary, do_lower_case=not cased, model_max_length=config.max_position_embeddings
    )
    with atomic_folder(output, replaced=checkpoint.weights_names()) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for reason, count in sorted(left_out.items()):
        print(f"{count} variables are left out: {reason}")
    print(f"the vocabulary is {'cased' if cased else 'uncased'}")
    return model.num_parameters()


def to_state(names: Iterable[str], read: Callable[[str], np.ndarray]) -> tuple[dict[str, torch.Tensor], Counter[str]]:
    """transformers' names and tensors, and how many variables were left out for which reason."""
    state, left_out = dict[str, torch.Tensor](), Counter[str]()
    for name in sorted(names):
        reason = next((reason for reason, pattern in LEFT_OUT.items() if pattern.match(name)), None)
        if reason:
            left_out[reason] += 1
            continue
        value = read(name)
        if name.endswith("/kernel"):
            value = value.T  # TensorFlow's is [in, out]
        state[torch_name(name)] = torch.from_numpy(np.array(value, dtype=np.float32))
    return state, left_out


def torch_name(name: str) -> str:
    """bert/encoder/layer_0/output/dense/kernel -> encoder.layer.0.output.dense.weight."""
    *path, leaf = re.sub(r"layer_(\d+)", r"layer/\1", name.removeprefix("bert/")).split("/")
    leaf = f"{leaf}.weight" if leaf.endswith("_embeddings") else LEAVES.get(leaf, leaf)
    return ".".join([*path, leaf])


def read_config(path: Path) -> BertConfig:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; put the model's {CONFIG} there.")
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    values = read_object(path, f"give BERT's own {CONFIG}.", needed)
    try:
        return BertConfig(**values)
    except Exception as error:  # of whatever kind a wrong value raises in transformers
        raise ValueError(f"{path}: {' '.join(str(error).split())}; give BERT's own {CONFIG}.") from None


def read_vocabulary(path: Path) -> dict[str, int]:
    """Token -> its line, from 0."""
    vocabulary: dict[str, int] = {}
    for number, token in read_lines(path):
        if not token or token in vocabulary:
            raise ValueError(f"{path}, line {number}: the token {token!r} is empty or there already; fetch it again.")
        vocabulary[token] = number - 1
    if missing := [token for token in SPECIAL if token not in vocabulary]:
        raise ValueError(f"{path} lacks {missing}; give BERT's own {VOCABULARY}.")
    return vocabulary


if __name__ == "__main__":
    run(main)
