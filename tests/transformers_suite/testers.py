"""Our models and configuration under transformers' common tests, and RoBERTa's own as controls."""

import tempfile
import unittest
from typing import ClassVar
from unittest import mock

import pytest
import torch
from safetensors.torch import save_file
from transformers import RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification, RobertaModel

from kadapter import AdapterConfig, BottleneckConfig, HeadConfig, KAdapterConfig, KAdapterModel, TaskModel

from .test_configuration_common import ConfigTester
from .test_modeling_common import ModelTesterMixin

LABELS = ("no", "yes", "both")


class Roberta:
    """A tiny RoBERTa of random weights and a batch for it: what the common tests ask of a model's own tester."""

    batch_size, seq_length = 3, 7
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads = 99, 32, 2, 4
    is_training = True
    num_labels = len(LABELS)

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        return RobertaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
            max_position_embeddings=40,
            pad_token_id=1,
            num_labels=self.num_labels,
        )

    def prepare_config_and_inputs_for_common(self):
        shape = (self.batch_size, self.seq_length)
        inputs = {"input_ids": torch.randint(2, self.vocab_size, shape), "attention_mask": torch.ones(shape).long()}
        return self.get_config(), inputs


class KAdapterTester(Roberta):
    head = None

    def get_config(self):
        return KAdapterConfig(
            backbone_config=super().get_config(),
            adapters={"fac": self.adapter(), "lin": self.adapter()},
            bottlenecks={"default": BottleneckConfig(size=8)},
            fusion_mode="gate",
            head=self.head,
        )

    def adapter(self):
        return AdapterConfig(adapter_list=(0, 2), adapter_size=16, num_attention_heads=4)


class Common(ModelTesterMixin):
    family, config_class = KAdapterTester, KAdapterConfig
    settings: ClassVar = {"fusion_mode": "add"}
    # Bottlenecks have layer norms of their own, which stand for the backbone's while they are switched on.
    test_all_params_have_gradient = False

    def setUp(self):
        self.model_tester = self.family(self)
        self.config_tester = ConfigTester(self, config_class=self.config_class, **self.settings)

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_weights_reload_no_missing_tied_weights(self):
        # A file without any of the weights: theirs draws them all and lists them, ours refuses.
        for model_class in self.all_model_classes:
            with tempfile.TemporaryDirectory() as folder:
                model_class(self.model_tester.get_config()).save_pretrained(folder)
                save_file({"tensor": torch.tensor([1, 2])}, f"{folder}/model.safetensors", metadata={"format": "pt"})
                with pytest.raises(ValueError, match="hold 1 tensors"):
                    model_class.from_pretrained(folder)


class OfTask(Common):
    """A saved encoder has no head, and none is made up: whoever loads it as a task model gives one."""

    all_model_classes = (TaskModel,)

    def setUp(self):
        super().setUp()
        load = TaskModel.from_pretrained

        def with_head(pretrained_model_name_or_path, **options):
            source = pretrained_model_name_or_path
            saved = source is not None and KAdapterConfig.from_pretrained(source).head
            return load(source, head=None if saved or source is None else self.family.head, **options)

        mended = mock.patch.object(TaskModel, "from_pretrained", with_head)
        mended.start()
        self.addCleanup(mended.stop)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        labels = {"labels": self.model_tester.labels()} if return_labels else {}
        return {**super()._prepare_for_class(inputs_dict, model_class), **labels}


class KAdapterModelTest(Common, unittest.TestCase):
    all_model_classes = (KAdapterModel,)


class ClassificationTester(KAdapterTester):
    head = HeadConfig("classification", len(LABELS), LABELS)

    def labels(self):
        return torch.zeros(self.batch_size).long()


class TaskModelTest(OfTask, unittest.TestCase):
    family = ClassificationTester


class MaskedLMTester(KAdapterTester):
    head = HeadConfig("masked_lm", Roberta.vocab_size)

    def labels(self):
        return torch.zeros(self.batch_size, self.seq_length).long()


class MaskedLMTest(OfTask, unittest.TestCase):
    family = MaskedLMTester


class ControlTest(Common, unittest.TestCase):
    """What fails here fails for reasons other than ours."""

    test_model_weights_reload_no_missing_tied_weights = (
        ModelTesterMixin.test_model_weights_reload_no_missing_tied_weights
    )
    all_model_classes = (RobertaModel, RobertaForSequenceClassification, RobertaForMaskedLM)
    family, config_class = Roberta, RobertaConfig
    settings: ClassVar = {"hidden_size": 36}
