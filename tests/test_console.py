"""kadapter/console.py: how programs end, how flags may be written, and what their values may be."""

import argparse
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EXAMPLES, ROOT, SCRIPTS, load_script, parser_of

from kadapter import console
from kadapter.console import Number, Parser, absolute, hub_or_path, local_path, named_source, outside
from kadapter.training.arguments import DataArguments, TrainingArguments
from kadapter.training.flags import parse
from kadapter.training.model_arguments import ModelArguments, TaskArguments


@pytest.fixture
def ended(monkeypatch, capsys):
    """Runs a main that raises; gives the exit code and what is on stderr."""
    for name in ("KADAPTER_DEBUG", "RANK", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)

    def call(error):
        def main():
            raise error

        with pytest.raises(SystemExit) as left:
            console.run(main)
        return left.value.code, capsys.readouterr().err

    return call


class OutOfMemoryError(RuntimeError):
    """As torch's, which console does not import."""


# -- ending -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("train.json, record 3: no text."), "error: train.json, record 3: no text.\n"),
        (FileNotFoundError("a.json is missing."), "error: a.json is missing.\n"),
        (FloatingPointError("the loss is nan"), "error: the loss is nan\n"),
        (ImportError("run pip install kadapter[tf]."), "error: run pip install kadapter[tf].\n"),
        (SystemExit("no run succeeded"), "error: no run succeeded\n"),
        (SystemExit("error: no run succeeded"), "error: no run succeeded\n"),
        (OutOfMemoryError("CUDA out of memory"), "error: CUDA out of memory\n"),
        (ValueError(), "error: ValueError\n"),
        (
            OSError("nobody/x is no model\n  If it is private,\n\nlog in."),
            "error: nobody/x is no model If it is private, log in.\n",
        ),
    ],
)
def test_an_expected_mistake_ends_with_one_line(ended, error, line):
    assert ended(error) == (1, line)


def test_a_long_message_of_several_lines_is_cut_and_a_long_line_is_not(ended):
    code, said = ended(OSError("the model x is not there\n" + "word " * 400))
    assert said.startswith("error: the model x is not there word")
    assert said.endswith("... (KADAPTER_DEBUG=1 shows all)\n")
    assert len(said) < 700
    assert ended(ValueError("name " * 400))[1].count("name") == 400


@pytest.mark.parametrize("code", [None, 0, 1, 143])
def test_an_exit_code_stays_what_it_is(ended, code):
    assert ended(SystemExit(code)) == (code, "")


def test_a_defect_keeps_its_traceback_and_so_does_every_error_on_demand(monkeypatch):
    with pytest.raises(KeyError):
        console.run(lambda: {}["x"])
    monkeypatch.setenv("KADAPTER_DEBUG", "1")
    with pytest.raises(ValueError, match="abc"):
        console.run(lambda: int("abc"))


def test_of_several_processes_the_main_one_speaks_and_all_tell_torchrun(ended, monkeypatch, tmp_path):
    for rank, said in (("0", "error: no text\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / rank))
        assert ended(ValueError("no text")) == (1, said)
        told = json.loads((tmp_path / rank).read_text())["message"]
        assert told["message"] == told["extraInfo"]["py_callstack"] == "no text"


@pytest.mark.parametrize("path", [*EXAMPLES, *SCRIPTS])
def test_every_program_ends_this_way_and_reads_its_flags_by_the_one_parser(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.endswith('if __name__ == "__main__":\n    run(main)\n')
    assert not re.search(r"ArgumentParser\(|SystemExit\(f", text)


def test_a_script_as_a_program_says_one_line_without_waiting_for_torch(tmp_path):
    command = [sys.executable, "-X", "importtime", str(ROOT / "scripts/clean_T_REx.py"), "--raw=gone", "--output=x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 1
    said = f"error: {tmp_path / 'gone'} is neither a folder nor a zip archive, nor a tar archive or a JSON file"
    assert lines == [f"{said}; give T-REx as downloaded."]
    assert "| torch\n" not in done.stderr
    assert "transformers" not in done.stderr


@pytest.mark.slow
def test_an_example_as_a_program_says_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "examples/run_example.py"), "--no-cuda", "--model_name", "./gone"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: the model {tmp_path / 'gone'} is not there; give a folder")
    assert "Traceback" not in done.stderr


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit, match=r"^error: this script needs optuna; run pip install kadapter\[sweep\]\.$"):
        load_script("scripts/sweep.py")


def test_a_model_that_cannot_be_fetched_is_named(monkeypatch):
    from kadapter.storage import pretrained

    def refuse(*args, **kwargs):
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr("kadapter.storage.hub.unreachable", lambda: "")
    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(OSError, match="the model user/name cannot be loaded; give the folder .*We couldn't connect"):
        pretrained.read_config("user/name")


# -- flags ------------------------------------------------------------------------------------------------------


@pytest.fixture
def parser():
    parser = Parser("What it does.")
    parser.add_argument("--learning_rate", "--rate", type=Number(float, "[0, inf)"))
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--use-case", default="")
    parser.add_argument("--no_tpu", help=argparse.SUPPRESS)
    return parser


def refused(capsys, call, *arguments):
    """What a parser that leaves says, which is one line."""
    with pytest.raises(SystemExit, match="2"):
        call(*arguments)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_dashes_in_a_flag_are_as_good_as_underscores(parser):
    args = parser.parse_args(["--learning-rate", "1", "--data-dir=a-b", "--use-case", "c-d"])
    assert (args.learning_rate, args.data_dir, args.use_case) == (1.0, "a-b", "c-d")


def test_values_keep_their_dashes():
    parser = Parser()
    parser.add_argument("--a_b")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    assert parser.parse_args(["--a-b=--a-b", "--", "x", "--a-b"]).rest[-1] == "--a-b"


def test_a_mistyped_flag_is_answered_with_the_right_one(parser, capsys):
    said = refused(capsys, parser.parse_args, ["--learnin-rate", "1", "--data_dir", "x"])
    assert "there is no --learnin-rate, did you mean --learning_rate?" in said
    said = refused(capsys, parser.parse_args, ["--dta_dir=x"])  # where the right one is required
    assert "there is no --dta_dir, did you mean --data_dir?" in said
    assert "did you mean" not in refused(capsys, parser.parse_args, ["--no_tpus=1", "--data_dir", "x"])


def test_the_beginning_of_a_flag_is_not_the_flag(parser, capsys):
    assert "did you mean --learning_rate?" in refused(capsys, parser.parse_args, ["--learning_r=1", "--data_dir=x"])


# -- paths ------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and another one where commands are typed."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_local_paths_are_absolute_and_know_the_home_folder(home, tmp_path):
    here = tmp_path / "here"
    cases = {"~/x": home / "x", "~": home, "x/y": here / "x/y", "../x/": tmp_path / "x", ".": here, "..": tmp_path}
    assert {text: absolute(text) for text in cases} == cases
    (tmp_path / "link").symlink_to(here)
    (here / "model").symlink_to(home)
    assert absolute(str(tmp_path / "link" / "model")) == here / "model"  # the link's own name, in its real folder
    assert local_path("") == ""
    with pytest.raises(argparse.ArgumentTypeError, match="it is empty; give a path"):
        absolute("")


def test_hub_names_stay_and_what_is_there_does_not(home, tmp_path):
    here = tmp_path / "here"
    (here / "mine").mkdir()
    cases = {name: name for name in ("", "roberta-large", "user/name@v2", "gone/pytorch_model.bin")}
    cases |= {"mine": str(here / "mine"), "./gone": str(here / "gone"), "~/a": str(home / "a")}
    assert {text: hub_or_path(text) for text in cases} == cases
    assert named_source("bio=~/a") == f"bio={home / 'a'}"
    assert named_source("bio=user/name@v2") == "bio=user/name@v2"


def test_every_path_of_a_recipe_is_absolute_wherever_it_was_typed(home, tmp_path):
    here = tmp_path / "here"
    flags = ["--data_dir=~/data", "--output_dir=out", "--features_cache", "f", "--cache_dir=~/c", "--adapter=bio=~/b"]
    flags += ["--meta_fac_adaptermodel=./fac", "--model_name_or_path=roberta-large", "--tokenizer_name=../t"]
    model, data, run = parse("", [TaskArguments, DataArguments, TrainingArguments], flags)
    assert (data.data_dir, data.features_cache) == (str(home / "data"), str(here / "f"))
    assert run.output_dir == str(here / "out")
    assert (model.cache_dir, model.model_name_or_path) == (str(home / "c"), "roberta-large")
    assert model.tokenizer_name == str(tmp_path / "t")
    assert model.sources() == {"fac": str(here / "fac"), "bio": str(home / "b")}
    assert parse("", [TrainingArguments], [])[0].output_dir == str(here / "output")


def test_the_same_command_typed_in_another_folder_is_the_same_run(tmp_path, monkeypatch):
    found = []
    (tmp_path / "below").mkdir()
    (tmp_path / "fac").mkdir()
    for folder, up in ((tmp_path, ""), (tmp_path / "below", "../")):
        monkeypatch.chdir(folder)
        flags = [f"--data_dir={up}data", f"--meta_fac_adaptermodel={up}fac", f"--adapter=bio={up}fac"]
        found.append(parse("", [TaskArguments, DataArguments], flags))  # which args.json keeps and compares
    assert found[0] == found[1]


@pytest.mark.parametrize("flag", ["--data_dir=", "--output_dir="])
def test_an_empty_folder_is_refused(capsys, flag):
    groups = [DataArguments, TrainingArguments]
    assert f"{flag[:-1]} is empty" in refused(capsys, parse, "", groups, ["--data_dir=x", flag])


# -- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*EXAMPLES, *SCRIPTS])
def test_every_number_of_a_program_has_a_range_and_every_path_is_absolute(path, monkeypatch):
    for action in parser_of(path, monkeypatch)._actions:
        assert action.type not in (int, float, Path), action.dest
        if isinstance(action.type, Number):
            low = re.search(r"[\[(](\S+),", action.type.within)[1]
            for text in ("nan", "inf", "x", "", str(int(low) - 3)):
                with pytest.raises(argparse.ArgumentTypeError, match="; it must be "):
                    action.type(text)
            if isinstance(action.default, (int, float)):
                assert action.type(str(action.default)) == action.default


# Flag, values that are refused, a value at the edge that is not.
NUMBERS = [
    ("adapter_size", ("0", "nan", "7.5"), "1"),
    ("adapter_skip_layers", ("-1", "1"), "2"),
    ("adapter_transformer_layers", ("0",), "1"),
    ("adapter_attention_heads", ("0", "5"), "3"),
    ("adapter_intermediate_size", ("0",), "1"),
    ("adapter_initializer_range", ("0", "-1", "nan", "inf"), "1e-9"),
    ("adapter_dropout", ("1", "-0.1", "nan"), "0"),
    ("bottleneck_size", ("-1",), "0"),
    ("bottleneck_initializer_range", ("0", "nan"), "1e-9"),
    ("max_seq_length", ("7",), "8"),
    ("preprocessing_num_workers", ("0",), "1"),
    ("dataloader_num_workers", ("-1",), "0"),
    ("per_gpu_train_batch_size", ("0", "-4"), "1"),
    ("per_gpu_eval_batch_size", ("0",), "1"),
    ("gradient_accumulation_steps", ("0",), "1"),
    ("max_tokens_per_batch", ("-1",), "0"),
    ("cache_max_gb", ("0", "nan", "inf"), "0.5"),
    ("learning_rate", ("-1", "nan", "inf", "fast"), "0"),
    ("weight_decay", ("-0.1", "nan", "inf"), "0"),
    ("adam_epsilon", ("0", "nan", "inf"), "1e-12"),
    ("max_grad_norm", ("-1", "nan"), "0"),
    ("num_train_epochs", ("0", "-1", "nan", "inf"), "0.5"),
    ("max_steps", ("0", "-2", "nan", "1e3"), "-1"),
    ("warmup_steps", ("-3",), "0"),
    ("warmup_proportion", ("1", "-0.1", "nan"), "0"),
    ("schedule_steps", ("-1",), "0"),
    ("logging_steps", ("0",), "1"),
    ("save_steps", ("-1",), "0"),
    ("eval_steps", ("-1",), "0"),
    ("max_save_checkpoints", ("0",), "1"),
    ("patience", ("-1",), "0"),
    ("seed", ("-1", str(2**32)), "0"),
    ("data_seed", ("-1", str(2**32)), "0"),
]


@pytest.mark.parametrize(("name", "bad", "good"), NUMBERS)
def test_a_number_out_of_its_range_is_refused_by_name_value_and_mend(capsys, name, bad, good):
    groups = [TaskArguments, DataArguments, TrainingArguments]
    needed = ["--data_dir=x", *(["--cache_states=y"] if name == "cache_max_gb" else [])]
    for text in bad:
        said = refused(capsys, parse, "", groups, [*needed, f"--{name}={text}"])
        assert name.removeprefix("adapter_attention_") in said
        assert text in said
        assert re.search("must be|use 0|choose", said)
    group = next(one for one in parse("", groups, [*needed, f"--{name}={good}"]) if hasattr(one, name))
    assert getattr(group, name) == float(good)


def test_the_table_knows_every_number():
    numbers = {
        name
        for group in (TaskArguments, DataArguments, TrainingArguments)
        for name, field in group.__dataclass_fields__.items()
        if field.metadata["within"]
    }
    assert numbers == {name for name, *_ in NUMBERS}


def test_a_group_made_in_python_is_checked_too():
    with pytest.raises(ValueError, match="--num_train_epochs is nan; it must be a finite number above 0"):
        TrainingArguments(num_train_epochs=float("nan"))
    with pytest.raises(ValueError, match="--max_steps is 0; it must be 1 or more, or -1"):
        TrainingArguments(max_steps=0)
    with pytest.raises(ValueError, match=r"--adapter_dropout is 1\.0; it must be in \[0, 1\)"):
        ModelArguments(adapter_dropout=1.0)


def test_an_impossible_adapter_is_refused_before_any_work(capsys):
    for flags, message in {
        ("--adapter_list=0;1",): "write numbers such as",
        ("--adapter_size=200",): "not divisible by num_attention_heads 3",
    }.items():
        assert message in refused(capsys, parse, "", [TaskArguments], flags)


def test_intervals_are_open_or_closed_as_they_are_written():
    inside = {"[0, 1)": (0, 0.5), "(0, 1)": (0.5,), "(0, 1]": (1,), "-1 or [1, inf)": (-1, 1, 10**9)}
    beyond = {"[0, 1)": (1, -0.1), "(0, 1)": (0, 1), "(0, 1]": (0,), "-1 or [1, inf)": (0, -2, float("inf"))}
    assert not [value for within, values in inside.items() for value in values if outside(value, within)]
    assert all(outside(value, within) for within, values in beyond.items() for value in (*values, float("nan")))


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("examples/*.py"), *ROOT.glob("scripts/*.py")]), ids=lambda p: p.name
)
def test_a_command_over_two_lines_is_shown_over_two_lines(path):
    """In a docstring that is not raw, a backslash at the end of a line joins it to the next."""
    text = path.read_text(encoding="utf-8")
    assert ("\\\n" in text.split('"""')[1]) == ("\\\n" in (ast.get_docstring(ast.parse(text)) or ""))
