"""The run scripts: what they start, and that a recipe really takes all of their flags."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest
from conftest import DATA, ROOT, fast, load_script

from kadapter.shapes import default_taps

SCRIPTS = {
    "run_pretrain_fac-adapter": "run_pretrain_fac_adapter",
    "run_pretrain_lin-adapter": "run_pretrain_lin_adapter",
    "run_pretrain_mlm-adapter": "run_pretrain_mlm_adapter",
    "run_pretrain_multitask": "run_pretrain_multitask",
    "run_finetune_openentity_adapter": "run_finetune_openentity_adapter",
    "run_finetune_figer_adapter": "run_finetune_figer_adapter",
    "run_finetune_tacred_adapter": "run_finetune_tacred_adapter",
    "run_finetune_semeval_adapter": "run_finetune_semeval_adapter",
    "run_finetune_cosmosqa_adapter": "run_finetune_cosmosqa_adapter",
    "run_finetune_classification_adapter": "run_finetune_classification_adapter",
    "run_finetune_tagging_adapter": "run_finetune_tagging_adapter",
    "run_finetune_searchqa_adapter": "run_finetune_searchqa_adapter",
    "run_finetune_quasart_adapter": "run_finetune_quasart_adapter",
    "run_finetune_squad_adapter": "run_finetune_squad_adapter",
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

    def call(script, *flags, root=ROOT, **environment):
        done = subprocess.run(
            ["bash", str(root / f"{script}.sh"), *flags],
            cwd=tmp_path,
            env={**os.environ, "PYTHON": str(stub), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return call


@pytest.mark.parametrize("script", fast(("run_pretrain_fac-adapter", "run_finetune_openentity_adapter"), SCRIPTS))
def test_a_run_script_trains_with_the_demo_model_and_data_when_told_to(started, script, tiny_backbone, world, tmp_path):
    recipe = load_script(f"examples/{SCRIPTS[script]}.py")
    flags = [f"--model_name_or_path={tiny_backbone}", f"--data_dir={world / DATA[SCRIPTS[script]]}"]
    flags += [f"--output_dir={tmp_path / 'out'}", "--adapter_size=16", "--adapter_list=0,1,2", "--no_cuda"]
    flags += ["--adapter_attention_heads=2", "--max_seq_length=64", "--max_steps=2", "--save_steps=2"]
    flags += ["--gradient_accumulation_steps=1", "--train_steps=2"] if "cosmosqa" in script else []
    flags += ["--doc_stride=8", "--max_query_length=16"] if "squad" in script else []
    if "finetune" in script:
        flags += ["--meta_fac_adaptermodel=", "--meta_lin_adaptermodel="]
    path, *arguments = started(script, *flags)
    assert path == str(ROOT / f"examples/{SCRIPTS[script]}.py")
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
    assert path == str(ROOT / "examples/run_classifier.py")
    assert arguments[-len(flags) :] == flags
    assert recipe.main(arguments)["steps"] == 2
    assert "--task_name=MRPC" in started("run_glue_adapter")


@pytest.fixture
def repository(tmp_path):
    """A copy of the run scripts in a folder with blanks in its name."""
    root = tmp_path / "a repository" / "k adapter"
    (root / "scripts").mkdir(parents=True)
    for path in [*ROOT.glob("run_*.sh"), ROOT / "scripts" / "launch.sh"]:
        shutil.copy(path, root / path.relative_to(ROOT))
    return root


def value_of(arguments, flag):
    """The last value of a flag, written with = or without."""
    joined = [argument for argument in arguments if argument.startswith(f"{flag}=")]
    return joined[-1].partition("=")[2] if joined else arguments[arguments.index(flag) + 1]


@pytest.mark.parametrize("script", [*SCRIPTS, "run_glue_adapter", "run_example"])
def test_a_run_scripts_own_paths_are_below_the_repository_and_the_users_are_not(started, repository, script):
    path, *arguments = started(script, root=repository)
    assert path.startswith(f"{repository}/examples/")
    assert (ROOT / "examples" / path.rpartition("/")[2]).is_file()
    for flag in ("--data_dir", "--output_dir", "--meta_fac_adaptermodel", "--meta_lin_adaptermodel"):
        if any(argument.split("=")[0] == flag for argument in arguments):
            assert (value := value_of(arguments, flag)) == "" or value.startswith(f"{repository}/"), flag
    assert not any(argument.startswith("--adapter_list") for argument in arguments)  # taps follow the depth
    assert not [argument for argument in arguments if argument.removeprefix("./").startswith(("data/", "proc"))]
    path, *arguments = started(script, "--output_dir=mine", root=repository)
    assert arguments[-1] == "--output_dir=mine"  # which the recipe reads where the command was typed


def test_a_run_script_works_through_a_link_and_finds_the_repositorys_environment(started, repository, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pretrain.sh").symlink_to(repository / "run_pretrain_fac-adapter.sh")
    path, *_ = started("pretrain", root=tmp_path / "bin")
    assert path == str(repository / "examples" / "run_pretrain_fac_adapter.py")
    (repository / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(tmp_path / "python", repository / ".venv" / "bin" / "python")
    (tmp_path / "python").unlink()
    for script in ("run_example", "run_finetune_figer_adapter"):
        path, *_ = started(script, root=repository, PYTHON="")
        assert path.startswith(f"{repository}/examples/{script}")


def test_the_users_glue_folder_is_where_the_command_was_typed(started):
    _, *arguments = started("run_glue_adapter", GLUE_DIR="glue", TASK="RTE")
    assert value_of(arguments, "--data_dir") == "glue/RTE"


def test_the_example_runs_once_whatever_the_environment_says(started):
    path, *_ = started("run_example", NGPU="4", NNODES="2", LAUNCH="accelerate launch")
    assert path == str(ROOT / "examples" / "run_example.py")


def test_taps_that_are_not_given_are_the_papers_on_its_backbone():
    assert default_taps(24) == (0, 11, 22)


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
    # That example is a walk through commands as they are typed in the repository.
    scripts = sorted({*ROOT.glob("run_*.sh")} - {ROOT / "run_own_knowledge_example.sh"})
    assert len(scripts) == len(SCRIPTS) + 2  # the example and GLUE
    for path in scripts:
        text = path.read_text()
        assert "set -euo pipefail" in text
        assert "\ncd " not in text  # the user's folder stays
        assert text.rstrip().endswith('"$@"')
        assert path.stat().st_mode & stat.S_IXUSR
