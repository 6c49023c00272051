"""What every recipe does without flags: a changed default is seen in review, in tests/defaults.json.

After a change that is meant: PYTHONPATH=tests python tests/test_defaults.py
"""

import json
from pathlib import Path

import pytest
from conftest import load_script

EXPECTED = Path(__file__).parent / "defaults.json"
RECIPES = (
    "run_classifier",
    "run_finetune_classification_adapter",
    "run_finetune_cosmosqa_adapter",
    "run_finetune_figer_adapter",
    "run_finetune_openentity_adapter",
    "run_finetune_quasart_adapter",
    "run_finetune_searchqa_adapter",
    "run_finetune_semeval_adapter",
    "run_finetune_squad_adapter",
    "run_finetune_tacred_adapter",
    "run_finetune_tagging_adapter",
    "run_pretrain_fac_adapter",
    "run_pretrain_lin_adapter",
    "run_pretrain_mlm_adapter",
    "run_pretrain_multitask",
)


PLACES = ("data_dir", "output_dir")  # which depend on where a recipe is started


class Parsed(Exception):
    """Ends a recipe as soon as its flags are read."""


def defaults(recipe):
    """Flag -> value, as JSON has it."""
    module = load_script(f"examples/{recipe}.py")
    real = module.parse_recipe

    def parse(*args, **options):
        raise Parsed(real(*args, **options))

    module.parse_recipe = parse  # of a module that is loaded for this alone
    try:
        module.main(["--data_dir", "data"])
    except Parsed as parsed:
        values = json.loads(json.dumps(parsed.args[0].values()))
        return {name: value for name, value in values.items() if name not in PLACES}
    raise AssertionError(f"{recipe} reads no flags")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_without_flags_does_what_it_did(recipe, caplog):
    found, expected = defaults(recipe), json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert found == {**expected["all"], **expected[recipe]}
    assert "does nothing" not in caplog.text  # which is said of obsolete flags that are given


def main():
    found = {recipe: defaults(recipe) for recipe in RECIPES}
    first = found[RECIPES[-1]]
    shared = {
        name: value for name, value in first.items() if all(name in v and v[name] == value for v in found.values())
    }
    own = {recipe: {k: v for k, v in values.items() if k not in shared} for recipe, values in found.items()}
    EXPECTED.write_text(json.dumps({"all": shared, **own}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
