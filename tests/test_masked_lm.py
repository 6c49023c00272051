"""Masked language modelling: blocks, masks, the head, and the recipe's real script in process."""

import copy
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import DEMO_BACKBONE, TINY_ADAPTER, load_script
from safetensors.torch import load_file
from tokenizers import normalizers
from torch.nn.functional import cross_entropy
from transformers import AlbertConfig, AutoModelForMaskedLM, BertConfig, ElectraConfig, RobertaConfig

from kadapter import HeadConfig, KAdapterModel, TaskModel
from kadapter.data.collation import Collator
from kadapter.data.encoding import Encoding
from kadapter.data.features import load_features
from kadapter.models.language_model import pretrained_head, start_from_backbone
from kadapter.tasks.masked_lm import MaskedLM, Masking, encode_text, masked_lm_scores, read_text
from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Feed, Plan

MLM = load_script("examples/run_pretrain_mlm_adapter.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")


def results(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def blocks(tokenizer, path, size, **options):
    examples = list(read_text(path, **options))
    return encode_text(examples, tokenizer, size, 0.15)


def store(world, tokenizer, split, line_by_line=False):
    return load_features(MaskedLM(line_by_line=line_by_line), world / "text", split, Encoding(tokenizer, 32))


# -- blocks and masks -------------------------------------------------------------------------------------------


def test_lines_are_strung_together_into_blocks_that_lose_nothing(tokenizer, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("one two three\n\n  \nfour five\nsix\n")
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one two three", " four five", " six")]
    found = blocks(tokenizer, path, 8)
    inner = [token for feature in found for token in feature["input_ids"][1:-1]]
    assert inner == sum(words, [])
    assert all(len(feature["input_ids"]) == 8 for feature in found[:-1])
    starts = [1] * len(words[0]) + [4] * len(words[1]) + [5] * len(words[2])
    assert [feature["record"] for feature in found] == starts[::6]
    each = blocks(tokenizer, path, 8, line_by_line=True)
    assert {feature["record"] for feature in each} == {1, 4, 5}
    assert [t for f in each if f["record"] == 4 for t in f["input_ids"][1:-1]] == tokenizer(
        "four five", add_special_tokens=False
    )["input_ids"]


def test_long_lines_make_several_blocks_and_many_lines_several_groups(tokenizer, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("".join(f"line number {i}\n" for i in range(250)))
    found = blocks(tokenizer, path, 16)
    assert len(list(read_text(path))) == 3
    assert len({(feature["record"], feature["block"]) for feature in found}) == len(found)


def test_a_mask_hides_exactly_the_share_and_eight_in_ten_by_the_mask_token(tokenizer):
    masking = Masking.of(tokenizer, 0.15, seed=1)
    ids = [tokenizer.cls_token_id, *[300] * 40, tokenizer.unk_token_id, tokenizer.sep_token_id]
    fates: Counter = Counter()
    for record in range(2000):
        masked = masking({"input_ids": ids, "record": record, "block": 0}, epoch=0)
        assert len(masked["positions"]) == masking.count(ids) == 6
        assert set(masked["positions"]) <= set(range(1, 41))
        assert masked["labels"] == [300] * 6
        for i, (before, after) in enumerate(zip(ids, masked["input_ids"], strict=True)):
            if i not in masked["positions"]:
                assert after == before
            else:
                fates["mask" if after == tokenizer.mask_token_id else "kept" if after == before else "random"] += 1
    shares = {name: count / 12000 for name, count in fates.items()}
    assert shares == pytest.approx({"mask": 0.8, "random": 0.1, "kept": 0.1}, abs=0.015)
    assert ids[1] == 300  # the feature itself stays as it was


def test_a_mask_depends_on_seed_epoch_and_block_alone(tokenizer):
    feature = {"input_ids": list(range(100, 160)), "record": 3, "block": 1}
    masking = Masking.of(tokenizer, 0.15, seed=1)
    first = masking(feature, 4)
    masking({**feature, "record": 9}, 4)  # what came between does not matter
    assert masking(feature, 4) == first
    others = [masking(feature, 5), masking({**feature, "block": 2}, 4), masking({**feature, "record": 4}, 4)]
    others.append(Masking.of(tokenizer, 0.15, seed=2)(feature, 4))
    assert all(other["positions"] != first["positions"] for other in others)


def test_batches_of_any_number_of_workers_are_equal_and_epochs_differ(world, tokenizer):
    data = store(world, tokenizer, "train")
    collate = Collator(tokenizer.pad_token_id, augment=Masking.of(tokenizer, 0.15, 7))
    feeds = [Feed(data, collate, num_workers=workers) for workers in (0, 2)]
    args = TrainingArguments(per_gpu_train_batch_size=len(data), num_train_epochs=2)
    plan = Plan.make(feeds[0], args, len(data), world=1)
    alone, shared = ([step.batches[0] for step in plan.steps(feed, begin=0, rank=0)] for feed in feeds)
    assert len(alone) == 2
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    counts = [(batch["labels"] != -100).sum().item() for batch in alone]
    assert counts == [sum(data["items"])] * 2
    hidden = [(batch["input_ids"] == tokenizer.mask_token_id).sum(1).tolist() for batch in alone]
    assert hidden[0] != hidden[1]


def test_dev_is_masked_once_and_training_not_at_all_before_its_epoch(world, tokenizer):
    dev, train = store(world, tokenizer, "dev"), store(world, tokenizer, "train")
    assert all(map(len, dev["positions"]))
    assert not any(map(len, train["positions"]))
    assert [len(row) for row in dev["labels"]] == dev["items"]
    batch = Collator(tokenizer.pad_token_id)([dev[i] for i in range(len(dev))])
    wanted = max(dev["items"])
    assert batch["positions"].shape == batch["labels"].shape == (len(dev), wanted)
    assert min(dev["items"]) < wanted  # so the shortest are filled up
    assert (batch["labels"] != -100).sum(1).tolist() == dev["items"]


@pytest.mark.parametrize(
    ("text", "message"), [(b"\n \n", "holds no text; write one"), (b"a\n\xff\n", "line 2: the byte at")]
)
def test_a_file_without_text_is_refused(tmp_path, text, message):
    path = tmp_path / "train.txt"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message):
        list(read_text(path))


def test_a_block_of_special_tokens_is_dropped_and_counted(tokenizer, tmp_path, caplog):
    path = tmp_path / "train.txt"
    path.write_text("</s></s>\nwords here\n")
    with caplog.at_level("WARNING"):
        data = load_features(
            MaskedLM(line_by_line=True), tmp_path, "train", Encoding(tokenizer, 16), cache_dir=tmp_path
        )
    assert data["record"] == [2]
    assert "1 of 2 examples dropped: they hold nothing but special tokens" in caplog.text


def test_lines_of_which_the_tokenizer_leaves_nothing_are_dropped_too(tokenizer):
    example = {"lines": ["\x00"], "numbers": [7], "masked": True, "record": 7}
    deaf = copy.deepcopy(tokenizer)
    deaf.backend_tokenizer.normalizer = normalizers.Replace("\x00", "")
    (feature,) = encode_text([example], deaf, 16, 0.15)
    assert (feature["record"], feature["items"], bool(feature["dropped"])) == (7, 0, True)
    with pytest.raises(ValueError, match="take an encoder for masked language modelling"):
        encode_text([example], tokenizer, 16, 0.15, causal=True)


# -- the head ---------------------------------------------------------------------------------------------------

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES = {
    "roberta": RobertaConfig(**SMALL, max_position_embeddings=40, layer_norm_eps=1e-5),
    "bert": BertConfig(**SMALL),
    "albert": AlbertConfig(**SMALL, embedding_size=8),
    "electra": ElectraConfig(**SMALL, embedding_size=8),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_begins_with_the_logits_of_its_backbones_own_head(tmp_path, family):
    torch.manual_seed(0)
    whole = AutoModelForMaskedLM.from_config(FAMILIES[family]).eval()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if "embeddings" not in name and parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # biases that are 0 would prove nothing
    whole.save_pretrained(tmp_path)
    encoder = KAdapterModel.from_pretrained(tmp_path, adapters={"bio": TINY_ADAPTER.resolved(2)})
    model = TaskModel.from_encoder(encoder, HeadConfig("masked_lm", 50))
    start_from_backbone(model, tmp_path)
    ids = torch.randint(5, 50, (2, 9))
    positions = torch.tensor([[1, 4, 6], [2, 3, 8]])
    with torch.no_grad():
        wanted = whole(ids, attention_mask=torch.ones_like(ids)).logits
        logits = model.eval()(ids, torch.ones_like(ids), positions=positions).logits
    for row in range(2):
        torch.testing.assert_close(logits[row], wanted[row, positions[row]], atol=1e-3, rtol=1e-3)
    assert wanted.std() > 0.05


def test_a_backbone_without_such_a_head_starts_with_a_fresh_one(tiny_backbone, caplog, tmp_path):
    assert pretrained_head(tiny_backbone) is None
    model = TaskModel.from_encoder(KAdapterModel.from_pretrained(tiny_backbone), HeadConfig("masked_lm", 50))
    before = {name: value.clone() for name, value in model.head.state_dict().items()}
    start_from_backbone(model, tiny_backbone)
    assert "has no masked-language-model head of BERT's form: it starts fresh" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in model.head.state_dict().items())


def test_a_head_that_computes_something_else_is_not_taken_over(tmp_path):
    AutoModelForMaskedLM.from_config(BertConfig(**SMALL, hidden_act="relu")).save_pretrained(tmp_path)
    assert pretrained_head(tmp_path) is None


def test_scores_are_those_of_all_hidden_tokens():
    scores = masked_lm_scores(np.array([4, 5, 7]), np.array([1.0, 2.0, 6.0], dtype=np.float32), np.array([4, 6, 7]))
    assert scores == pytest.approx({"accuracy": 2 / 3, "perplexity": math.exp(3), "log_likelihood": -3.0})


# -- the recipe -------------------------------------------------------------------------------------------------


def test_perplexity_starts_at_the_backbones_own(run, world, tokenizer):
    flags = ("--model_name_or_path", DEMO_BACKBONE, "--learning_rate", "0", "--max_seq_length", "32", "--line_by_line")
    report, folder = run(MLM, *flags, steps=1)
    dev = store(world, tokenizer, "dev", line_by_line=True)
    whole = AutoModelForMaskedLM.from_pretrained(DEMO_BACKBONE).eval()
    losses, hits = [], []
    for feature in dev:
        with torch.no_grad():
            logits = whole(torch.tensor([feature["input_ids"]])).logits[0, feature["positions"]]
        labels = torch.tensor(feature["labels"])
        losses.append(cross_entropy(logits, labels, reduction="none"))
        hits.append(logits.argmax(-1) == labels)
    assert report["dev"]["loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-3)
    assert report["dev"]["accuracy"] == pytest.approx(torch.cat(hits).float().mean().item(), abs=1e-6)
    assert report["dev"]["perplexity"] == pytest.approx(math.exp(report["dev"]["loss"]), rel=1e-4)
    assert report["dev"]["loss"] < math.log(len(tokenizer)) - 1  # a fresh head knows nothing
    rows = [json.loads(line) for line in (folder / "predictions_dev.jsonl").read_text().splitlines()]
    assert [len(row["hidden"]) for row in rows] == [len(row["predicted"]) for row in rows] == dev["items"]
    found = sum(a == b for row in rows for a, b in zip(row["hidden"], row["predicted"], strict=True))
    assert found / sum(dev["items"]) == pytest.approx(report["dev"]["accuracy"])


@pytest.mark.slow
def test_an_adapter_learns_on_a_frozen_backbone_and_serves_a_task(run):
    report, folder = run(MLM, "--model_name_or_path", DEMO_BACKBONE, "--adapter_initializer_range", "0.02", steps=20)
    rows = [row for row in results(folder) if row["split"] == "dev"]
    assert rows[-1]["metrics"]["loss"] < rows[0]["metrics"]["loss"]
    assert report["best"]["log_likelihood"] == max(row["metrics"]["log_likelihood"] for row in rows)
    trained = load_file(folder / "checkpoint-20" / "trained.safetensors")
    assert {name.split(".")[0] for name in trained} == {"encoder", "head"}
    assert all(name.startswith(("encoder.adapters.mlm.", "encoder.fusion.", "head.")) for name in trained)
    head = load_file(folder / "pretraining_head.safetensors")
    assert head.keys() >= {"dense.weight", "layer_norm.weight", "bias"}
    assert max(map(torch.numel, head.values())) < 2 * 128 * 128 + 1  # no copy of the embeddings
    backbone = ("--model_name_or_path", DEMO_BACKBONE)
    assert run(TYPING, *backbone, f"--adapter=bio={folder / 'best'}", steps=1)[0]["steps"] == 1


def test_the_baseline_trains_the_head_alone(run):
    report, folder = run(MLM, "--no_adapter", "--line_by_line")
    assert set(report["dev"]) == {"accuracy", "perplexity", "log_likelihood", "loss"}
    assert all(name.startswith("head.") for name in load_file(folder / "checkpoint-6" / "trained.safetensors"))


def test_the_other_baseline_trains_fusion_and_head_beside_an_adapter_that_stays_fresh(run):
    _, short = run(MLM, "--untrained_adapter", "--comment", "short", steps=1)
    _, long = run(MLM, "--untrained_adapter", "--learning_rate", "1e-2", steps=6)
    trained = load_file(long / "checkpoint-6" / "trained.safetensors")
    assert {name.split(".")[0] for name in trained} == {"encoder", "head"}
    assert all(name.startswith(("encoder.fusion.", "head.")) for name in trained)
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (short, long))
    layers = [name for name in one if name.startswith("adapter.")]
    assert layers
    assert all(torch.equal(one[name], other[name]) for name in layers)


@pytest.mark.parametrize("flag", ["--no_adapter", "--meta_adapter_model=gone"])
def test_an_untrained_adapter_is_a_fresh_one(run, flag):
    with pytest.raises(ValueError, match="--untrained_adapter is a fresh one"):
        run(MLM, "--untrained_adapter", flag)


@pytest.mark.slow
def test_a_broken_run_goes_on_with_the_masks_of_an_unbroken_one(run, terminated):
    flags = ("--per_gpu_train_batch_size", "16", "--gradient_accumulation_steps", "2")  # several epochs
    _, whole = run(MLM, "--comment", "whole", *flags)
    with terminated():
        run(MLM, "--comment", "broken", *flags)
    _, broken = run(MLM, "--comment", "broken", *flags)
    for name in ("adapter_model.safetensors", "pretraining_head.safetensors"):
        one, other = load_file(whole / name), load_file(broken / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    strip = [{**row, "seconds": 0} for row in results(whole)]
    assert strip[-1]["epoch"] > 1
    assert [{**row, "seconds": 0} for row in results(broken)] == strip


def test_other_seeds_are_judged_on_the_same_hidden_tokens(run):
    found = []
    for seed in ("1", "2"):
        _, folder = run(MLM, "--seed", seed, "--comment", f"seed{seed}", steps=1)
        lines = (folder / "predictions_dev.jsonl").read_text().splitlines()
        found.append([json.loads(line)["hidden"] for line in lines])
    assert found[0] == found[1]


def test_what_cannot_be_is_refused(run, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"mlm_probability is 1\.0; it must be between 0 and 1"):
        Masking.of(tokenizer, 1.0, 0)
    with pytest.raises(FileNotFoundError, match=r"train\.txt is missing"):
        run(MLM, "--data_dir", tmp_path)

    class Maskless:
        mask_token_id, name_or_path = None, "gpt"

    with pytest.raises(ValueError, match="'gpt' has no mask token; take a masked-language model"):
        Masking.of(Maskless(), 0.15, 0)
