"""The run scripts: what they start, and that a recipe really takes all of their flags."""

import json
import os
import stat
import subprocess
import sys

import pytest
from conftest import DATA, ROOT, load_script

SCRIPTS = {
    "run_pretrain_fac-adapter": "run_pretrain_fac_adapter",
    "run_pretrain_lin-adapter": "run_pretrain_lin_adapter",
    "run_pretrain_mlm-adapter": "run_pretrain_mlm_adapter",
    "run_finetune_openentity_adapter": "run_finetune_openentity_adapter",
    "run_finetune_figer_adapter": "run_finetune_figer_adapter",
    "run_finetune_tacred_adapter": "run_finetune_tacred_adapter",
    "run_finetune_semeval_adapter": "run_finetune_semeval_adapter",
    "run_finetune_cosmosqa_adapter": "run_finetune_cosmosqa_adapter",
}
STUB = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture
def started(tmp_path):
    """Runs a run script with a Python that only tells what it was called with."""
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)

    def call(script, *flags, **environment):
        done = subprocess.run(
            ["bash", str(ROOT / f"{script}.sh"), *flags],
            cwd=tmp_path,
            env={**os.environ, "PYTHON": str(stub), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return call


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_script_trains_with_the_demo_model_and_data_when_told_to(started, script, tiny_backbone, world, tmp_path):
    recipe = load_script(f"examples/{SCRIPTS[script]}.py")
    flags = [f"--model_name_or_path={tiny_backbone}", f"--data_dir={world / DATA[SCRIPTS[script]]}"]
    flags += [f"--output_dir={tmp_path / 'out'}", "--adapter_size=16", "--adapter_list=0,1,2", "--no_cuda"]
    flags += ["--adapter_attention_heads=2", "--max_seq_length=64", "--max_steps=2", "--save_steps=2"]
    flags += ["--gradient_accumulation_steps=1", "--train_steps=2"] if "cosmosqa" in script else []
    if "finetune" in script:
        flags += ["--meta_fac_adaptermodel=", "--meta_lin_adaptermodel="]
    path, *arguments = started(script, *flags)
    assert path == f"examples/{SCRIPTS[script]}.py"
    assert arguments[-len(flags) :] == flags  # the user's come last and win
    report = recipe.main(arguments)
    assert report["steps"] == 2
    assert report["dev"]


def test_the_glue_script_takes_task_and_folder_from_the_environment(started, tiny_backbone, tmp_path):
    recipe = load_script("examples/run_classifier.py")
    for split in ("train", "dev"):
        path = tmp_path / "RTE" / f"{split}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\ta\tc\tnot_entailment\n")
    flags = [f"--init_checkpoint={tiny_backbone}", f"--output_dir={tmp_path / 'out'}", "--max_steps=2", "--no_cuda"]
    path, *arguments = started("run_glue_adapter", *flags, TASK="RTE", GLUE_DIR=str(tmp_path))
    assert path == "examples/run_classifier.py"
    assert arguments[-len(flags) :] == flags
    assert recipe.main(arguments)["steps"] == 2
    assert "--task_name=MRPC" in started("run_glue_adapter")


def test_processes_and_machines_go_through_torchrun(started):
    script = "run_finetune_tacred_adapter"
    many = started(script, NGPU="4")
    assert many[:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "4"]
    two = started(script, NGPU="8", NNODES="2", NODE_RANK="1", MASTER_ADDR="host0")
    assert two[2:10] == [
        *("--nnodes", "2", "--node_rank", "1", "--master_addr", "host0", "--master_port", "29500"),
    ]
    with pytest.raises(subprocess.CalledProcessError) as failed:
        started(script, NNODES="2")
    assert "NODE_RANK" in failed.value.stderr


def test_every_run_script_is_strict_and_passes_the_users_flags_last():
    scripts = sorted(ROOT.glob("run_*.sh"))
    assert len(scripts) == len(SCRIPTS) + 2  # the example and GLUE
    for path in scripts:
        text = path.read_text()
        assert "set -euo pipefail" in text
        assert text.rstrip().endswith('"$@"')
        assert path.stat().st_mode & stat.S_IXUSR
