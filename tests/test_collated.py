"""What training and evaluation load of features: all that the collator and a task's augmentation make use of."""

import numpy as np
import pytest
import torch
from conftest import DATA

from kadapter.data.collation import Collator
from kadapter.data.encoding import Encoding
from kadapter.data.features import load_features
from kadapter.tasks import TASKS
from kadapter.training.batches import Feed

FOLDERS = {  # a task -> the recipe whose data of the demo world it reads
    "fac": "run_pretrain_fac_adapter",
    "lin": "run_pretrain_lin_adapter",
    "mlm": "run_pretrain_mlm_adapter",
    "openentity": "run_finetune_openentity_adapter",
    "semeval": "run_finetune_semeval_adapter",
    "cosmosqa": "run_finetune_cosmosqa_adapter",
    "searchqa": "run_finetune_searchqa_adapter",
    "squad": "run_finetune_squad_adapter",
    "classification": "run_finetune_classification_adapter",
    "tagging": "run_finetune_tagging_adapter",
}


def both(task, folder, tokenizer, tmp_path):
    """A batch of training as the loop loads it, and one of whole features."""
    features = load_features(task, folder, "train", Encoding(tokenizer, 64), cache_dir=tmp_path)
    collate = Collator(tokenizer.pad_token_id, augment=task.augmentation(tokenizer, seed=3))
    chosen = list(range(min(8, len(features))))
    (loaded,) = Feed(features, collate).batches([np.array(chosen)], epoch=2)
    return loaded, collate([features[i] for i in chosen], 2), features


def options(name):
    return {"doc_stride": 8, "max_query_length": 16} if name == "squad" else {}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_batch_of_training_lacks_nothing_of_what_the_features_give(name, world, tokenizer, tmp_path):
    folder = world / DATA[FOLDERS[name]]
    loaded, whole, _ = both(TASKS[name].for_folder(folder, **options(name)), folder, tokenizer, tmp_path)
    assert loaded.keys() >= whole.keys()
    assert all(torch.equal(loaded[key], whole[key]) for key in whole)
    assert ("context_mask" in loaded) == (name == "squad")


def test_training_hides_the_spans_that_the_data_mark(world, tokenizer, tmp_path):
    task = TASKS["mlm"](mask_spans=True, line_by_line=True, mlm_probability=0.25)
    loaded, whole, features = both(task, world / "stated", tokenizer, tmp_path)
    assert all(torch.equal(loaded[key], whole[key]) for key in whole)
    for row, positions in enumerate(loaded["positions"].tolist()):
        places = list(zip(*[iter(features[row]["spans"])] * 2, strict=True))
        hidden = {at for at, label in zip(positions, loaded["labels"][row].tolist(), strict=True) if label != -100}
        count = features[row]["items"]
        assert any({*range(*place)} <= hidden for place in places) or all(end - at > count for at, end in places)
