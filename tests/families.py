"""Tiny backbones of each family with tokenizers of its kind, trained in a second on the demo world's text."""

import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AlbertTokenizer,
    AutoConfig,
    AutoModel,
    BertTokenizer,
    CamembertTokenizer,
    DebertaV2Tokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENCODER = {**SIZES, **NO_DROPOUT, "max_position_embeddings": 130}
DEBERTA_V3 = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 16,
    "type_vocab_size": 0,
}


def byte_level(lines, special):
    """Vocabulary and merges of a byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(tokenizer, trainers.BpeTrainer, lines, special, initial_alphabet=alphabet)


def word_piece(lines, special):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _trained(tokenizer, trainers.WordPieceTrainer, [line.lower() for line in lines], special)


def unigram(lines, special, unk="<unk>"):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    both = [*lines, *map(str.lower, lines)]
    vocab, _ = _trained(tokenizer, trainers.UnigramTrainer, both, special, unk_token=unk)
    return [(piece, score) for piece, score in vocab], None


def metaspace_bpe(lines, special):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _trained(tokenizer, trainers.BpeTrainer, lines, special)


def _trained(tokenizer, trainer, lines, special, **options):
    options = {"special_tokens": special, "vocab_size": 500, "show_progress": False, **options}
    tokenizer.train_from_iterator(lines, trainer(**options))
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model.get("merges", [])]


def modern_bert(lines):
    """ModernBERT's kind has no class of its own: a byte-level BPE with BERT's special tokens."""
    vocab, merges = byte_level(lines, BERT)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), BERT, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )


def _of(kind, make, special, **options):
    def build(lines):
        vocab, merges = make(lines, special)
        return kind(vocab=vocab, **({"merges": merges} if make in (byte_level, metaspace_bpe) else {}), **options)

    return build


BERTS = _of(BertTokenizer, word_piece, BERT)
# family -> its tokenizer and its configuration
FAMILIES = {
    "roberta": (_of(RobertaTokenizer, byte_level, ROBERTA), {**ENCODER, "type_vocab_size": 1}),
    "xlm-roberta": (_of(XLMRobertaTokenizer, unigram, ROBERTA), {**ENCODER, "type_vocab_size": 1}),
    "camembert": (_of(CamembertTokenizer, unigram, ROBERTA), {**ENCODER, "type_vocab_size": 1}),
    "bert": (BERTS, ENCODER),
    "distilbert": (
        BERTS,
        {"dim": 32, "n_layers": 4, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 130, "dropout": 0.0},
    ),
    "albert": (
        _of(AlbertTokenizer, unigram, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]),
        {**ENCODER, "embedding_size": 16},
    ),
    "electra": (BERTS, {**ENCODER, "embedding_size": 16}),
    "deberta-v2": (
        _of(DebertaV2Tokenizer, lambda lines, special: unigram(lines, special, "[UNK]"), BERT),
        {**ENCODER, **DEBERTA_V3},
    ),
    "mpnet": (_of(MPNetTokenizer, word_piece, ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]), ENCODER),
    "modernbert": (modern_bert, {**SIZES, "max_position_embeddings": 130}),
    "gpt2": (
        _of(GPT2Tokenizer, byte_level, ["<|endoftext|>"]),
        {"n_embd": 32, "n_layer": 4, "n_head": 2, "n_inner": 48, "n_positions": 130, "resid_pdrop": 0.0},
    ),
    "llama": (
        _of(LlamaTokenizer, metaspace_bpe, ["<unk>", "<s>", "</s>"], add_bos_token=True),
        {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 130},
    ),
}
DECODERS = ("gpt2", "llama")


def texts(world: Path) -> list[str]:
    """What the demo world's relations and mentions are made of; each sign alone and each letter within a word."""
    lines = [" ".join(row["token"]) for row in json.loads((world / "TACRED" / "train.json").read_text())]
    lines += [row["sent"] for row in json.loads((world / "OpenEntity" / "train.json").read_text())]
    letters = string.ascii_letters + string.digits
    return [*lines, *(f"a {sign}" for sign in string.punctuation + letters), *(f"a{sign}" for sign in letters)]


def config(family, tokenizer=None, **changes):
    """The family's configuration; without a tokenizer one of 200 ids, of which 1 pads."""
    ids = {"vocab_size": 200, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    if tokenizer is not None:
        names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        ids = {"vocab_size": len(tokenizer), **{name: getattr(tokenizer, name) for name in names}}
    return AutoConfig.for_model(family, **{**ids, **FAMILIES[family][1], **changes})


def save(family: str, lines: list[str], folder: Path) -> Path:
    """A folder that AutoModel and AutoTokenizer load."""
    torch.manual_seed(0)
    tokenizer = FAMILIES[family][0](lines)
    tokenizer.save_pretrained(folder)
    AutoModel.from_config(config(family, tokenizer)).save_pretrained(folder)
    return folder
