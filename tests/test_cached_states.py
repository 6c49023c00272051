"""States of a frozen backbone kept on disk: the plain way, which runs the backbone each time, is the oracle."""

import json
import logging
import multiprocessing
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, load_script, slow
from safetensors.torch import load_file
from transformers import AutoConfig

from kadapter import KAdapterConfig
from kadapter.models import tapping
from kadapter.models.modeling import KAdapterModel
from kadapter.storage.blocks import Blocks
from kadapter.storage.errors import WriteError
from kadapter.training import loop, states, worth
from kadapter.training.arguments import TrainingArguments

FAC = load_script("examples/run_pretrain_fac_adapter.py")
LIN = load_script("examples/run_pretrain_lin_adapter.py")
MLM = load_script("examples/run_pretrain_mlm_adapter.py")
FROZEN = ("--freeze_bert", "--task_adapter", "own")
FINETUNED = {
    kind: load_script(f"examples/run_finetune_{kind}_adapter.py")
    for kind in ("openentity", "tacred", "cosmosqa", "classification", "tagging", "squad", "searchqa")
}
SHORTER = {"squad": ("--max_query_length=20", "--doc_stride=8"), "searchqa": ("--stride=8",)}
BATCH, EPOCH = 64, 5  # steps that are more than an epoch


def losses(folder):
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return [row["metrics"]["loss"] for row in rows]


def weights(folder):
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def assert_same(one, other, even=()):
    """Losses and weights within 1e-6.

    What adds the same to all that a softmax compares changes nothing, so its gradients are rounding alone, which Adam
    makes large: the biases of attention's keys, that of the score of a choice, and those whose names end as in `even`.
    """
    assert losses(one) == pytest.approx(losses(other), abs=1e-6)
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for file in found:
        for name, tensor in found[file].items():
            within = 1e-4 if name.endswith(("key.bias", *even)) or tensor.numel() == 1 else 1e-6
            torch.testing.assert_close(tensor, expected[file][name], atol=within, rtol=0, msg=name)


@pytest.fixture
def pair(run, tmp_path):
    """Calls a recipe without and with a cache; gives both folders."""

    def call(recipe, *flags, cached=(), steps=EPOCH):
        flags = ("--per_gpu_train_batch_size", BATCH, "--eval_steps", steps, *flags)
        _, plain = run(recipe, *flags, "--comment", "plain", steps=steps)
        _, kept = run(
            recipe, *flags, "--comment", "cached", "--cache_states", tmp_path / "states", *cached, steps=steps
        )
        return plain, kept

    return call


# -- equal to the plain way ------------------------------------------------------------------------------------------


def test_epochs_from_the_cache_give_the_losses_and_weights_of_the_plain_way(run, pair, tmp_path, backbone_rows):
    flags = ("--per_gpu_train_batch_size", 32, "--gradient_accumulation_steps", 2, "--eval_steps", 4)
    plain, cached = pair(FAC, *flags, steps=9)
    assert_same(cached, plain)
    backbone_rows.clear()
    more = ("--dataloader_num_workers", 1, "--comment", "again")
    _, again = run(FAC, *flags, *more, "--cache_states", tmp_path / "states", steps=9)
    assert not backbone_rows
    assert_same(again, plain)


@pytest.mark.parametrize("family", tapping.EMBEDDED)
def test_where_embeddings_give_the_first_state_they_give_it_to_the_last_bit(family):
    sizes = {"dim": 32, "hidden_dim": 48} if family == "distilbert" else {"hidden_size": 32, "intermediate_size": 48}
    config = AutoConfig.for_model(family, vocab_size=60, num_hidden_layers=2, num_attention_heads=2, **sizes)
    model = KAdapterModel(KAdapterConfig(backbone_config=config)).eval()
    ids, mask = torch.arange(4, 24).reshape(2, 10), torch.ones(2, 10, dtype=torch.long)
    ids[1, 7:], mask[1, 7:] = config.pad_token_id, 0
    inputs = {"input_ids": ids} | ({"token_type_ids": ids % 2} if family == "bert" else {})
    found = model.first_state(**inputs)
    assert torch.equal(found, model.frozen_states(taps=[0], attention_mask=mask, **inputs)["0"])


def test_the_first_state_is_not_kept_and_adapters_read_it_as_ever(pair, tmp_path):
    assert_same(*reversed(pair(FAC, "--adapter_list", "0", "--max_seq_length", 63)))
    assert {path.name.partition("-")[0] for path in (tmp_path / "states").rglob("*.bin")} == {"last"}


@pytest.mark.parametrize(
    "kind",
    ["lin", "tagging", *map(slow, ("cosmosqa", "searchqa", "openentity", "tacred", "classification", "squad"))],
)
def test_every_head_finds_in_the_cache_what_it_reads(pair, kind):
    recipe, flags = (LIN, ()) if kind == "lin" else (FINETUNED[kind], (*FROZEN, *SHORTER.get(kind, ())))
    # The reader compares tokens with each other, to all of which these add the same.
    even = ("adapter.2.up_project.bias", "task_dense_own.bias", "qa_outputs.bias") if kind == "searchqa" else ()
    assert_same(*reversed(pair(recipe, *flags)), even=even)


def test_of_masked_language_modelling_only_dev_is_kept_which_is_said(pair, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert_same(*reversed(pair(MLM, steps=4)))
    assert "only the states of dev are kept" in caplog.text
    assert len(list((tmp_path / "states").iterdir())) == 1


def test_a_run_that_ends_in_the_middle_of_the_first_epoch_goes_on_as_an_unbroken_one(
    run, tmp_path, monkeypatch, backbone_rows
):
    flags = ("--eval_steps", 6, "--save_steps", 1, "--per_gpu_train_batch_size", BATCH)
    _, plain = run(FAC, *flags, "--comment", "plain", steps=6)
    real, calls = loop._accumulate, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "_accumulate", killed)
    cached = (*flags, "--comment", "cached", "--cache_states", tmp_path / "states")
    with pytest.raises(KeyboardInterrupt):
        run(FAC, *cached, steps=6)
    monkeypatch.setattr(loop, "_accumulate", real)
    done = sum(backbone_rows)
    _, again = run(FAC, *cached, "--cache_max_gb", 1, steps=6)  # which is no other run
    assert_same(again, plain)
    assert done < sum(backbone_rows)


# -- shared, bounded, in fewer bits ----------------------------------------------------------------------------------


def test_runs_with_other_seeds_rates_and_sizes_share_what_was_computed(run, tmp_path, backbone_rows):
    cache = ("--cache_states", tmp_path / "states", "--per_gpu_train_batch_size", BATCH, "--eval_steps", EPOCH)
    run(FAC, *cache, "--comment", "one", steps=EPOCH)
    assert backbone_rows
    backbone_rows.clear()
    more = ("--seed", 7, "--learning_rate", 1e-4, "--adapter_size", 32, "--adapter_list", "0,2")
    run(FAC, *cache, *more, "--comment", "two", steps=EPOCH)
    assert not backbone_rows
    assert len(list((tmp_path / "states").iterdir())) == 2  # of train and dev


def test_with_a_limit_a_part_is_kept_and_the_rest_is_computed(pair, tmp_path, backbone_rows, caplog):
    with caplog.at_level(logging.INFO):
        plain, cached = pair(FAC, cached=("--cache_max_gb", 0.0005))
    assert_same(cached, plain)
    assert "by --cache_max_gb" in caplog.text
    sums = [np.fromfile(path, np.int64) for path in (tmp_path / "states").rglob("*.sums")]
    assert any(0 < (one != 0).sum() < len(one) for one in sums)
    assert 0 < backbone_rows[-1] < 36  # of dev's examples, too


@pytest.mark.parametrize("dtype", [slow("bf16"), slow("fp16")])
def test_sixteen_bits_take_half_the_room_and_every_epoch_sees_the_same(run, tmp_path, dtype):
    flags = ("--per_gpu_train_batch_size", BATCH, "--eval_steps", EPOCH, "--cache_states", tmp_path / "states")
    _, wide = run(FAC, *flags, "--comment", "wide", steps=EPOCH)
    sizes = {path.stat().st_size for path in (tmp_path / "states").rglob("state-1.bin")}
    few = (*flags, "--cache_dtype", dtype, "--comment")
    first, later = (run(FAC, *few, name, steps=EPOCH)[1] for name in ("first", "later"))
    assert_same(later, first)
    assert losses(first) == pytest.approx(losses(wide), abs=0.01)
    assert losses(first) != losses(wide)
    found = {path.stat().st_size for path in (tmp_path / "states").rglob("state-1.bin")}
    assert found == sizes | {size // 2 for size in sizes}


# -- auto -------------------------------------------------------------------------------------------------------------


def auto(run, caplog, tmp_path, *flags, steps=EPOCH):
    """What a run with --cache_states auto says of it, and its folder."""
    where = ("--features_cache", tmp_path / "features", "--per_gpu_train_batch_size", BATCH, "--eval_steps", steps)
    with caplog.at_level(logging.INFO):
        _, folder = run(FAC, *where, "--cache_states", "auto", *flags, "--comment", "auto", steps=steps)
    (said,) = [record.message for record in caplog.records if "--cache_states auto" in record.message]
    return said, folder


@pytest.mark.parametrize("kept", [True, False])
def test_auto_keeps_states_where_the_first_batches_say_that_it_pays(run, caplog, tmp_path, monkeypatch, kept):
    seconds = {"computing": 1e-3, "writing": 1e-4, "reading": 1e-5 if kept else 1.0}
    monkeypatch.setattr(worth, "measured", lambda *args: seconds)
    said, folder = auto(run, caplog, tmp_path)
    tokens = [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) tokens", said)]
    assert re.search(r"train [\d,]+ tokens, 1\.48 times; dev [\d,]+ tokens, 2 times", said)  # 5 steps of 64 of 216
    without, within = (float(number) for number in re.findall(r"([\d.]+) s with", said))
    assert without == pytest.approx((tokens[0] * 5 * 64 / 216 + tokens[1] * 2) * 1e-3, abs=0.06)
    later = (tokens[0] * (5 * 64 / 216 - 1) + tokens[1]) * seconds["reading"]
    assert within == pytest.approx(sum(tokens) * 1.1e-3 + later, abs=0.06)
    assert said.endswith("they are kept." if kept else "they are not kept.")
    there = [np.fromfile(path, np.int64).all() for path in (tmp_path / "features" / "states").rglob("*.sums")]
    assert all(there) == kept
    _, plain = run(FAC, "--per_gpu_train_batch_size", BATCH, "--eval_steps", EPOCH, "--comment", "plain", steps=EPOCH)
    assert_same(folder, plain)


def test_auto_measures_on_the_first_batches_what_it_decides_by(run, caplog, tmp_path):
    said, _ = auto(run, caplog, tmp_path)
    times = [float(number) for number in re.findall(r"([\d.]+) µs (?:computing|writing|reading)", said)]
    assert len(times) == 3
    assert all(0 < time < 1e5 for time in times)


def test_auto_says_why_it_keeps_nothing_where_nothing_can_be_kept(run, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "free_bytes", lambda path: 5000)
    assert "keeps nothing: --cache_states needs" in auto(run, caplog, tmp_path)[0]
    caplog.clear()
    assert (
        "keeps nothing: --cache_states keeps what a frozen"
        in auto(run, caplog, tmp_path, "--freeze_bert", "", "--overwrite_output_dir")[0]
    )


def test_how_often_a_run_goes_through_its_splits_follows_from_its_flags():
    args = TrainingArguments(do_train=True, do_eval=True, num_train_epochs=3, eval_steps=10)
    assert worth.passes(args, 100, 8) == {"train": 38 * 8 / 100, "dev": 4 + 1, "": 1}
    short = TrainingArguments(do_train=True, max_steps=5, eval_steps=0)
    assert worth.passes(short, 100, 8) == {"train": 0.4, "dev": 1, "": 0}
    assert worth.passes(TrainingArguments(do_eval=True), 0, 8) == {"train": 0, "dev": 1, "": 1}


# -- damage and refusals ---------------------------------------------------------------------------------------------


def test_a_damaged_block_is_computed_anew_and_said(run, pair, tmp_path, caplog, backbone_rows):
    plain, _ = pair(FAC)
    for path in (tmp_path / "states").rglob("state-1.bin"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    backbone_rows.clear()
    flags = ("--per_gpu_train_batch_size", BATCH, "--eval_steps", EPOCH, "--cache_states", tmp_path / "states")
    _, again = run(FAC, *flags, "--comment", "again", steps=EPOCH)
    assert_same(again, plain)
    assert backbone_rows == [1, 1]  # of train and dev, and then they are whole again
    assert "is damaged; it is computed anew" in caplog.text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--freeze_bert", ""), "but this one is trained; give --freeze_bert"),
        (("--attend_padding",), "keeps no states of padding"),
    ],
)
def test_a_cache_that_would_be_wrong_is_refused_before_work_starts(run, tmp_path, flags, said):
    with pytest.raises(ValueError, match=said):
        run(FAC, "--cache_states", tmp_path / "states", *flags)
    assert not (tmp_path / "states").exists()


def test_auto_in_sixteen_bits_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run(FAC, "--cache_states", "auto", "--cache_dtype", "bf16")
    assert "--cache_states auto decides by the clock, which must not change results" in capsys.readouterr().err


def test_a_file_of_blocks_that_is_forgotten_is_read_again(tmp_path):
    blocks = Blocks(tmp_path / "blocks.bin", np.array([3, 5]))
    blocks.write({1: block(1, 5)})
    blocks.forget()
    assert blocks.read(1).tolist() == [1] * 5


def test_flags_of_a_cache_without_a_cache_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run(FAC, "--cache_dtype", "bf16")
    assert "--cache_dtype and --cache_max_gb are for --cache_states" in capsys.readouterr().err


def test_what_the_disk_cannot_hold_is_refused_in_one_sentence(run, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "free_bytes", lambda path: 5000)
    with pytest.raises(ValueError, match=r"--cache_states needs .* [KM]iB more in .*, where 4\.9 KiB are free; give"):
        run(FAC, "--cache_states", tmp_path / "states")


def test_an_adapter_that_was_trained_with_padding_is_refused(run, tmp_path):
    _, padded = run(FAC, "--attend_padding", "--comment", "padded", steps=1)
    cached = (*FROZEN, "--adapter", f"fac={padded}", "--cache_states", tmp_path / "states")
    with pytest.raises(ValueError, match="to which adapter 'fac' attends"):
        run(FINETUNED["openentity"], *cached)


def test_sharded_parameters_are_refused(tiny_model):
    model = SimpleNamespace(encoder=tiny_model)
    with pytest.raises(ValueError, match="not for FSDP and DeepSpeed"):
        states.open_states(None, model, {}, SimpleNamespace(distributed_type="FSDP"))


def test_states_beyond_fp16_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(states.TaskModel, "frozen_states", lambda self, **inputs: {"last": torch.full((9, 2, 32), 1e6)})
    with pytest.raises(FloatingPointError, match="give bf16 or float32"):
        run(FAC, "--cache_states", tmp_path / "states", "--cache_dtype", "fp16")


# -- scripts ----------------------------------------------------------------------------------------------------------


def test_the_comparison_leaves_the_cache_out_where_the_backbone_is_trained():
    recipe = ["bash", "run.sh", "--cache_states", "/states", "--cache_dtype=bf16", "--seed", "3", "--cache_max_gb=2"]
    assert load_script("scripts/compare.py").without_cache(recipe) == ["bash", "run.sh", "--seed", "3"]


def test_the_benchmark_fills_the_cache_and_reads_it(tiny_backbone, world, tmp_path, capsys, backbone_rows):
    recipe = [str(ROOT / "examples/run_pretrain_fac_adapter.py"), f"--model_name_or_path={tiny_backbone}", "--no_cuda"]
    recipe += [f"--data_dir={world / 'trex-rc'}", "--adapter_size=16", "--adapter_attention_heads=2", "--max_steps=2"]
    benchmark = load_script("scripts/benchmark_states.py")
    benchmark.main([f"--output_dir={tmp_path}", "--repeats=1", "--ways", "first epoch", "later epoch", "--", *recipe])
    assert backbone_rows == [8, 8]
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| an epoch", "| first epoch", "| later epoch"]


def test_the_benchmark_measures_settings_together(tiny_backbone, world, tmp_path, capsys, backbone_rows):
    recipe = [str(ROOT / "examples/run_pretrain_fac_adapter.py"), f"--model_name_or_path={tiny_backbone}", "--no_cuda"]
    recipe += [f"--data_dir={world / 'trex-rc'}", "--adapter_size=16", "--adapter_attention_heads=2", "--max_steps=1"]
    (tmp_path / "settings.json").write_text('[{"seed": 1}, {"seed": 2}]', encoding="utf-8")
    flags = [f"--output_dir={tmp_path}", "--repeats=1", f"--settings={tmp_path / 'settings.json'}"]
    load_script("scripts/benchmark_states.py").main([*flags, "--", *recipe])
    assert backbone_rows == [8, 8, 8]
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| an epoch", "| a run for each", "| together"]


# -- the file of blocks ----------------------------------------------------------------------------------------------


def block(number, size):
    return np.full(size, number, dtype=np.uint8)


def write_all(path, sizes, order):
    blocks = Blocks(path, sizes)
    for number in order:
        blocks.write({int(number): block(number, sizes[number])})


def test_blocks_come_back_by_their_numbers_and_only_once_they_are_written(tmp_path):
    sizes = np.array([3, 0, 5, 2])
    blocks = Blocks(tmp_path / "a" / "blocks.bin", sizes)
    assert not blocks.there().any()
    blocks.write({2: block(2, 5), 1: block(1, 0)})
    assert blocks.there().tolist() == [False, True, True, False]
    assert blocks.read(2).tolist() == [2] * 5
    assert len(blocks.read(1)) == 0
    assert blocks.read(0) is None
    with pytest.raises(ValueError, match="block 3 has 3 bytes, not 2"):
        blocks.write({3: block(3, 3)})
    again = pickle.loads(pickle.dumps(blocks))  # as a process that loads batches gets it
    assert again.read(2).tolist() == [2] * 5


def test_processes_write_the_same_blocks_at_once(tmp_path):
    sizes = np.random.default_rng(0).integers(0, 2000, 60)
    orders = [np.random.default_rng(seed).permutation(60) for seed in range(3)]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_all, args=(tmp_path / "blocks.bin", sizes, order)) for order in orders]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    blocks = Blocks(tmp_path / "blocks.bin", sizes)
    assert all((blocks.read(i) == i).all() and len(blocks.read(i)) == size for i, size in enumerate(sizes))


def test_a_file_that_was_cut_off_only_lacks_what_is_gone(tmp_path):
    sizes = np.array([4, 4, 4])
    write_all(tmp_path / "blocks.bin", sizes, [0, 1, 2])
    (tmp_path / "blocks.bin").write_bytes((tmp_path / "blocks.bin").read_bytes()[:9])
    blocks = Blocks(tmp_path / "blocks.bin", sizes)
    assert [blocks.read(i) is None for i in range(3)] == [False, False, True]
    blocks.write({2: block(2, 4)})
    assert blocks.read(2).tolist() == [2] * 4


def test_a_place_that_cannot_be_written_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cached states"):
        Blocks(tmp_path / "file" / "blocks.bin", np.array([1]))
