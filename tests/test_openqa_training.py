"""Training on questions: what only a right selector can solve, and whether knowledge helps in the demo world."""

import json

import pytest
from conftest import DEMO_BACKBONE, load_script
from questions import write_toy

DEMO = load_script("scripts/make_demo_data.py")
RECIPE = load_script("examples/run_finetune_searchqa_adapter.py")


@pytest.mark.slow
def test_only_a_right_selector_solves_a_set_whose_paragraphs_all_have_an_answer(run, tmp_path):
    for split, count in (("train", 200), ("dev", 40), ("test", 100)):
        write_toy(tmp_path / "data", split, count)

    def trained(comment, *flags):
        flags = (f"--data_dir={tmp_path / 'data'}", *flags, "--comment", comment, "--per_gpu_train_batch_size=8")
        return run(RECIPE, *flags, "--learning_rate=2e-3", "--eval_steps=50", "--save_steps=50", steps=100)

    alone, reader = trained("reader", "--mode=reader")
    assert alone["test"]["exact_match"] < 0.5  # three paragraphs outweigh the one that is right
    both, folder = trained("both", "--mode=all", f"--init_from={reader / 'best'}")
    assert both["test"]["exact_match"] > 0.9
    assert both["test"]["hits_at_1"] > 0.9
    rows = [json.loads(line) for line in (folder / "predictions_test.jsonl").read_text().splitlines()]
    right = [row for row in rows if row["exact_match"]]
    assert all(row["text"].startswith("yes") and row["paragraphs"][0]["score"] > 0.5 for row in right)


@pytest.mark.slow
def test_the_demo_worlds_questions_need_a_selector(run, tmp_path):
    def place(name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        return tmp_path / name

    DEMO.write_questions(DEMO.build_world(42, 20, 1), place, {"train": 800, "dev": 50, "test": 100})

    def trained(comment, *flags):
        flags = (f"--model_name_or_path={DEMO_BACKBONE}", f"--data_dir={tmp_path / 'questions'}", *flags)
        flags += ("--untrained=control", "--comment", comment)
        flags += ("--learning_rate=5e-4", "--warmup_steps=10", "--per_gpu_train_batch_size=16")
        return run(RECIPE, *flags, "--eval_steps=50", "--save_steps=50", "--chunk_tokens=4096", steps=50)[0]["test"]

    alone, both = trained("reader", "--mode=reader"), trained("all", "--mode=all")
    assert alone["exact_match"] < 0.2  # it adds up what three paragraphs deny
    assert both["exact_match"] > 0.8
