"""Pretrain the demo's backbone: a byte-level BPE tokenizer and a RoBERTa of 4 layers and width 128.

    python scripts/make_demo_data.py --output_dir data/demo --seed 42
    python scripts/make_demo_backbone.py --data_dir data/demo --seed 42

About 3 minutes on one CPU core. The text names the demo's entities and states no fact about them, so the
backbone knows every name and no type. This script is the record of how ``pretrained_models/roberta-demo`` was
made; the README.md that it writes there holds the measured numbers.
"""

import json
import math
import os
import random
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import DataCollatorForLanguageModeling as Collator
from transformers import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
    get_linear_schedule_with_warmup,
    set_seed,
)

from kadapter.console import COUNT, SEED, Number, Parser, absolute, run
from kadapter.data.jsonio import read_lines
from kadapter.storage.checkpoint import weights_names
from kadapter.storage.files import atomic_folder

SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MARKERS = ("@", "#", "^")
HELD_OUT = 1000  # lines of the text that training never sees


def train_tokenizer(lines: list[str], vocab_size: int) -> RobertaTokenizer:
    """Byte-level BPE with RoBERTa's special tokens; raises ValueError if a marker is not one token."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(lines, vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, show_progress=False)
    model = json.loads(bpe.to_str())["model"]
    merges: list = [tuple(merge) for merge in model["merges"]]
    tokenizer = RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=512)
    for text in (prefix + marker for marker in MARKERS for prefix in ("", " ")):
        pieces = tokenizer.tokenize(text)
        if len(pieces) != 1:
            raise ValueError(f"{text!r} is split into {pieces}: raise --vocab_size {vocab_size}")
    return tokenizer


class MarkerCollator(Collator):
    """RoBERTa's masking, but a quarter of the hidden tokens turn into a marker, which the model has to see through.

    So a marker's state knows the words beside it, as it does in a large RoBERTa: tasks read the state of a marker.
    """

    def torch_mask_tokens(self, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> tuple:
        inputs, labels = super().torch_mask_tokens(inputs, *args, **kwargs)
        forms = [space + marker for space in ("", "Ġ") for marker in MARKERS]  # Ġ is the tokenizer's space
        markers = torch.tensor(self.tokenizer.convert_tokens_to_ids(forms))
        disguised = (labels != -100) & (torch.rand(labels.shape) < 0.25)
        inputs[disguised] = markers[torch.randint(len(markers), (int(disguised.sum()),))]
        return inputs, labels


def build_model(vocab_size: int) -> RobertaForMaskedLM:
    """RoBERTa's architecture at the smallest size that learns names and word order in minutes."""
    config = RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    return RobertaForMaskedLM(config)


def draw_batches(lengths: list[int], batch_size: int, rng: random.Random) -> Iterator[list[int]]:
    """Endless batches of line numbers; lines of similar length go together, which halves the padding."""
    while True:
        order = rng.sample(range(len(lengths)), len(lengths))
        for start in range(0, len(order), 20 * batch_size):
            block = sorted(order[start : start + 20 * batch_size], key=lengths.__getitem__)
            batches = [block[i : i + batch_size] for i in range(0, len(block), batch_size)]
            rng.shuffle(batches)
            yield from batches


def masked_logits(model: RobertaForMaskedLM, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [masked, vocabulary] and labels [masked]; others skip the output layer, a third of the work."""
    labels = batch.pop("labels")
    hidden = model.roberta(**batch).last_hidden_state  # [batch, seq, hidden]
    masked = labels != -100
    return model.lm_head(hidden[masked]), labels[masked]


def train(model: RobertaForMaskedLM, examples: list[dict], collate: Collator, args: Namespace) -> None:
    """Masked language modelling with AdamW, a tenth of the steps warm-up, then linear decay to 0."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, args.steps // 10, args.steps)
    lengths = [len(row["input_ids"]) for row in examples]
    batches = draw_batches(lengths, args.batch_size, random.Random(args.seed))
    model.train()
    progress = tqdm(range(args.steps), mininterval=5)
    for _ in progress:
        loss = cross_entropy(*masked_logits(model, collate([examples[i] for i in next(batches)])))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


@torch.no_grad()
def evaluate(model: RobertaForMaskedLM, examples: list[dict], collate: Collator) -> tuple[float, float]:
    """Accuracy and perplexity on the masked tokens of ``examples``."""
    model.eval()
    loss, correct, total = 0.0, 0.0, 0
    for start in range(0, len(examples), 100):
        logits, labels = masked_logits(model, collate(examples[start : start + 100]))
        loss += cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(-1) == labels).sum().item()
        total += len(labels)
    return correct / total, math.exp(loss / total)


README = """# roberta-demo

The backbone of kadapter's demo: RoBERTa with 4 layers, width 128, 4 heads, feed-forward 512 and a byte-level
BPE vocabulary of {vocab} tokens ({parameters:,} parameters). It was pretrained from scratch by masked
language modelling on text made by `scripts/make_demo_data.py`, which names the demo's invented entities and
states no fact about them. It knows nothing of real language: use it for the demo and for tests.

```bash
python scripts/make_demo_data.py --output_dir data/demo --seed 42
python scripts/make_demo_backbone.py --data_dir data/demo --seed {seed} --steps {steps}
```

| | |
|---|---|
| steps, batch, learning rate | {steps}, {batch_size}, {learning_rate:g} |
| held-out masked tokens: accuracy | {accuracy:.3f} |
| held-out masked tokens: perplexity | {perplexity:.2f} |
| training time on {threads} CPU thread(s) | {seconds:.0f} s |

Load it like any RoBERTa: `AutoModel.from_pretrained("pretrained_models/roberta-demo")`. Text and weights come
from this repository's scripts alone and have its licence.
"""


def main(argv: list[str] | None = None) -> None:
    """Train the tokenizer and the model, measure, save."""
    parser = Parser("Pretrain the demo's RoBERTa.")
    parser.add_argument(
        "--data_dir", type=absolute, default="data/demo", help="the demo's data, which make_demo_data.py writes"
    )
    parser.add_argument("--output_dir", type=absolute, default="pretrained_models/roberta-demo", help="folder to write")
    parser.add_argument("--seed", type=SEED, default=42, help="seed of weights and order")
    parser.add_argument("--vocab_size", type=COUNT, default=3000, help="tokens of the vocabulary")
    parser.add_argument("--steps", type=COUNT, default=1800, help="optimizer steps")
    parser.add_argument("--batch_size", type=COUNT, default=32, help="lines in each batch")
    parser.add_argument("--learning_rate", type=Number(float, "(0, inf)"), default=1e-3, help="peak learning rate")
    args = parser.parse_args(argv)

    text = args.data_dir / "backbone" / "text.txt"
    if not text.is_file():
        raise ValueError(f"{text} is missing: run scripts/make_demo_data.py --output_dir {args.data_dir}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    set_seed(args.seed)
    lines = [line for _, line in read_lines(text)]
    tokenizer = train_tokenizer(lines, args.vocab_size)
    examples = [{"input_ids": ids} for ids in tokenizer(lines)["input_ids"]]
    collate = MarkerCollator(tokenizer, mlm_probability=0.3)
    model = build_model(len(tokenizer))
    start = time.perf_counter()
    train(model, examples[HELD_OUT:], collate, args)
    seconds = time.perf_counter() - start
    accuracy, perplexity = evaluate(model, examples[:HELD_OUT], collate)
    print(f"held-out masked tokens: accuracy {accuracy:.4f}, perplexity {perplexity:.3f}; {seconds:.0f} s")
    measured = {"accuracy": accuracy, "perplexity": perplexity, "seconds": seconds}
    sizes = {"vocab": len(tokenizer), "parameters": model.num_parameters()}
    readme = README.format(**vars(args), **measured, **sizes, threads=torch.get_num_threads())
    with atomic_folder(args.output_dir, "the demo's backbone", replaced=weights_names()) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    run(main)
