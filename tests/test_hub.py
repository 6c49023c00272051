"""Cards beside saved models, and the hub: names instead of folders, read from a cache as the hub's library keeps it."""

import shutil
import time
from fnmatch import fnmatch

import huggingface_hub
import pytest
import torch
from conftest import ROOT, load_script
from huggingface_hub import ModelCard, constants
from huggingface_hub.errors import EntryNotFoundError
from served import a_server  # noqa: F401  # a fixture
from tiny import assert_same, build, features, weights

from kadapter import HeadConfig, KAdapterModel, TaskModel
from kadapter.storage.card import MARKER, MODEL_WEIGHTS, write_card
from kadapter.storage.hub import reach, unreachable
from kadapter.storage.pretrained import read_config, read_tokenizer

FAC = load_script("examples/run_pretrain_fac_adapter.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")


@pytest.fixture
def hub(tmp_path):
    """The hub's cache: `hub(repo_id, revision)` is a folder that counts as downloaded; `hub.options` read no other."""

    def place(repo_id, revision="main"):
        repository, commit = tmp_path / "hub" / f"models--{repo_id.replace('/', '--')}", revision.ljust(40, "0")
        reference = repository / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
        return repository / "snapshots" / commit

    place.options = {"cache_dir": tmp_path / "hub", "local_files_only": True}
    return place


# -- loading by name --------------------------------------------------------------------------------------------


def test_an_adapter_and_a_model_load_by_name_and_revision(hub, tiny_backbone_config):
    for seed, revision in ((1, "main"), (2, "v2")):
        model = build(tiny_backbone_config, ("bio",), seed=seed)
        model.save_adapter(hub("ann/bio", revision), "bio")
        model.save_pretrained(hub("ann/model", revision))
    for seed, revision in ((1, {}), (2, {"revision": "v2"})):
        options = hub.options | revision
        wanted = build(tiny_backbone_config, ("bio",), seed=seed)
        found = build(tiny_backbone_config, ())
        found.load_adapter("ann/bio", "med", **options)
        assert_same(weights(found.adapters["med"]), weights(wanted.adapters["bio"]))
        loaded = KAdapterModel.from_pretrained("ann/model", **options)
        assert_same(weights(loaded), weights(wanted))
        for other, name in ((1, "ann/bio"), (2, "ann/bio@v2")):  # whatever revision the model is of
            both = KAdapterModel.from_pretrained("ann/model", adapters={"med": name}, **options)
            given = build(tiny_backbone_config, ("bio",), seed=other)
            assert_same(weights(both.adapters["med"]), weights(given.adapters["bio"]))
        assert torch.equal(features(loaded), features(wanted))


def test_a_name_or_revision_that_is_not_there_is_told(hub, tiny_backbone_config):
    model = build(tiny_backbone_config, ("bio",))
    model.save_adapter(hub("ann/bio"), "bio")
    with pytest.raises(
        FileNotFoundError, match="adapter bob/bio is neither a local file or folder nor a reachable hub"
    ):
        model.load_adapter("bob/bio", "med", **hub.options)
    with pytest.raises(FileNotFoundError, match="adapter ann/bio is neither"):
        model.load_adapter("ann/bio", "med", revision="v9", **hub.options)
    assert list(model.adapters) == ["bio"]


@pytest.fixture
def pushed(monkeypatch, tmp_path):
    """What would go to the hub, a tuple a call; `pushed.card` is the card that is there already."""

    class Calls(list):
        card = None

    calls = Calls()

    class Api:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, repo_id, **options):
            calls.append((repo_id, options))
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def create_branch(self, repo_id, **options):
            calls.append((repo_id, options))

        def hf_hub_download(self, repo_id, filename, revision):
            if calls.card is None:
                raise EntryNotFoundError("no card")
            (tmp_path / filename).write_text(calls.card)
            return str(tmp_path / filename)

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, **options):
            names = [path.name for path in folder_path.iterdir()]
            files = sorted(name for name in names if any(fnmatch(name, pattern) for pattern in allow_patterns))
            calls.append((repo_id, files, options))

    monkeypatch.setattr("kadapter.storage.card.HfApi", Api)
    return calls


def test_an_adapter_is_pushed_with_its_own_files_alone(tmp_path, pushed, tiny_backbone_config):
    folder = tmp_path / "bio"
    folder.mkdir()
    (folder / "events.out.tfevents").write_text("of a run")
    options = {"private": True, "token": "t", "commit_message": "first"}
    build(tiny_backbone_config, ("bio",)).save_adapter(folder, "bio", push_to_hub=True, repo_id="ann/bio", **options)
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert pushed == [
        ("token", "t"),
        ("ann/bio", {"private": True, "exist_ok": True}),
        ("ann/bio", files, {"revision": None, "commit_message": "first"}),
    ]


@pytest.mark.parametrize("card", [None, MARKER, "by hand"])
def test_a_model_is_pushed_with_a_card_of_ours_unless_one_was_written_by_hand_there(
    tmp_path, pushed, tiny_backbone_config, card
):
    model, pushed.card = build(tiny_backbone_config, ("bio",)), card
    model.save_pretrained(tmp_path / "model", push_to_hub=True, repo_id="me/it", commit_message="x", revision="v2")
    model.push_to_hub("me/it", token="t")
    files = [*(["README.md"] if card != "by hand" else []), "config.json", "model.safetensors"]
    gone = [*MODEL_WEIGHTS]
    assert pushed == [
        ("token", None),
        ("me/it", {"private": None, "exist_ok": True}),
        ("me/it", {"branch": "v2", "exist_ok": True}),
        ("me/it", files, {"revision": "v2", "commit_message": "x", "delete_patterns": gone}),
        ("token", "t"),
        ("me/it", {"private": None, "exist_ok": True}),
        ("me/it", files, {"revision": None, "delete_patterns": gone}),
    ]


def test_what_an_earlier_push_left_there_is_deleted_but_for_other_variants(tmp_path, pushed, tiny_backbone_config):
    model = build(tiny_backbone_config, ("bio",))
    model.save_pretrained(tmp_path / "model", push_to_hub=True, repo_id="me/it")
    gone = pushed[-1][2]["delete_patterns"]
    old = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "model.safetensors"]
    kept = [
        "config.json",
        "model.fp16.safetensors",
        "model.fp16-00001-of-00002.safetensors",
        "README.md",
        "tokenizer.json",
    ]
    assert [name for name in old + kept if any(fnmatch(name, pattern) for pattern in gone)] == old
    model.save_pretrained(tmp_path / "model", push_to_hub=True, repo_id="me/it", variant="fp16")
    assert "delete_patterns" not in pushed[-1][2]


# -- cards ------------------------------------------------------------------------------------------------------


def test_a_recipe_describes_its_adapter(run, tiny_backbone):
    report, folder = run(FAC)
    for place in (folder, folder / "best"):
        card = ModelCard.load(place / "README.md")
        assert card.data.license == "unknown"
        assert card.data.library_name == "kadapter"
        assert card.data.tags == ["kadapter", "adapter", "fac"]
        assert card.data.base_model is None  # a folder of this machine is no name on the hub
        assert str(tiny_backbone.parent) not in card.content
        assert f"Knowledge adapter `fac` for `{tiny_backbone.name}`" in card.text
        assert "| fac | 0, 1, 2 | 16 | 1 | 2 |" in card.text
        assert "`trex-rc`: train" in card.text
    card = ModelCard.load(folder / "best" / "README.md")
    results = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert results == {("dev", name): value for name, value in report["dev"].items()}
    assert f"| dev | accuracy | {report['dev']['accuracy']:.4f} |" in card.text


def test_a_final_model_that_is_not_the_best_does_not_take_its_scores(run):
    report, folder = run(FAC, "--learning_rate", "0")  # equal scores: the first is the best
    assert (report["best"]["step"], report["steps"]) == (3, 6)
    final, best = (ModelCard.load(place / "README.md") for place in (folder, folder / "best"))
    assert best.data.eval_results
    assert final.data.eval_results is None
    assert "## Scores\nunknown" in final.text


def test_a_task_model_names_all_its_adapters(run):
    adapter = run(FAC, steps=1)[1]
    report, folder = run(TYPING, f"--meta_fac_adaptermodel={adapter}", "--task_adapter=own")
    card = ModelCard.load(folder / "best" / "README.md")
    assert card.data.tags == ["kadapter", "adapter", "fac", "own"]
    assert {result.dataset_split for result in card.data.eval_results} == {"dev", "test"}
    assert "Predictor(" in card.text
    assert TaskModel.from_pretrained(folder / "best")  # beside the card


def test_a_card_of_the_users_stays_and_so_does_a_licence(tmp_path, tiny_backbone_config):
    model = build(tiny_backbone_config, ("bio",))
    card = tmp_path / "bio" / "README.md"
    model.save_adapter(card.parent, "bio")
    first = card.read_text()
    assert MARKER in first
    card.write_text(first.replace("license: unknown", "license: cc-by-4.0"))
    write_card(card.parent, "bio", model.config, "bio", ("texts", {"train": 1234}))
    assert "license: cc-by-4.0" in card.read_text()
    assert "`texts`: train 1,234 examples" in card.read_text()
    kept = card.read_text().replace(MARKER, "") + "my words\n"
    card.write_text(kept)
    write_card(card.parent, "bio", model.config, "bio")
    model.save_adapter(card.parent, "bio")
    assert card.read_text() == kept


def test_a_backbone_from_the_hub_is_the_base_model(tmp_path, tiny_backbone_config):
    model = build(tiny_backbone_config, ("bio",))
    model.config.backbone_config._name_or_path = "roberta-large"
    model.save_adapter(tmp_path / "bio", "bio")
    card = ModelCard.load(tmp_path / "bio" / "README.md")
    assert card.data.base_model == "roberta-large"
    assert 'KAdapterModel.from_pretrained("roberta-large")' in card.text
    assert 'model.load_adapter("bio", "bio")' in card.text


def test_a_saved_model_has_a_card_that_loads_it(tmp_path, tiny_backbone_config):
    encoder = build(tiny_backbone_config, ("bio",))
    encoder.save_pretrained(tmp_path / "encoder")
    TaskModel.from_encoder(encoder, HeadConfig("classification", 2)).save_pretrained(tmp_path / "task")
    for name, model in (("encoder", "KAdapterModel"), ("task", "TaskModel")):
        card = ModelCard.load(tmp_path / name / "README.md")
        assert f'from kadapter import {model}\n\nmodel = {model}.from_pretrained("{name}")' in card.text
        assert "| bio | " in card.text
    assert KAdapterModel.from_pretrained(tmp_path / "encoder")


# -- without a network ------------------------------------------------------------------------------------------


@pytest.fixture
def network(monkeypatch):
    """`network(address)`: the hub is asked, under this address."""

    def choose(address):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr("kadapter.storage.hub.PAUSE", 0.01)
        monkeypatch.setattr("kadapter.storage.hub._known", {})

    return choose


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://hub.invalid"])
def test_a_hub_that_cannot_be_reached_is_told_at_once(tmp_path, network, tiny_backbone_config, address):
    network(address)
    began = time.monotonic()
    for read in (read_config, read_tokenizer, KAdapterModel.from_pretrained):
        said = (
            rf"ann/model is neither a local folder nor in the hub's cache, and {address} cannot be reached \(.*\); give"
        )
        with pytest.raises(ConnectionError, match=said):
            read("ann/model", cache_dir=tmp_path)
    with pytest.raises(ConnectionError, match="the adapter ann/bio is neither a local folder nor in the hub's cache"):
        build(tiny_backbone_config, ()).load_adapter("ann/bio", "med", cache_dir=tmp_path)
    assert time.monotonic() - began < 20  # the hub's library alone takes 23 seconds for each file


@pytest.mark.parametrize("name", ["output/run/best", "./gone", "no such model"])
def test_a_folder_that_is_not_there_is_told_as_such(name):
    for read in (read_config, read_tokenizer, KAdapterModel.from_pretrained):
        with pytest.raises(FileNotFoundError, match=f"the model {name} is not there; give a folder, or a name on"):
            read(name)


def test_what_was_fetched_before_is_read_without_a_network(hub, network, monkeypatch, tiny_backbone_config):
    folder, cache = hub("ann/model"), {"cache_dir": hub.options["cache_dir"]}
    model = build(tiny_backbone_config, ("bio",))
    model.save_pretrained(folder)
    model.save_adapter(hub("ann/bio"), "bio")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "pretrained_models/roberta-demo" / name, folder)
    network("http://127.0.0.1:9")
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert len(read_tokenizer("ann/model", **cache)) > 100
    loaded = KAdapterModel.from_pretrained("ann/model", **cache)
    assert_same(weights(loaded), weights(model))
    loaded.load_adapter("ann/bio", "med", **cache)
    assert_same(weights(loaded.adapters["med"]), weights(model.adapters["bio"]))
    assert sum(slept) < 0.1  # between two tries; nothing is asked again and again
    with pytest.raises(ConnectionError, match="ann/model is neither"):
        read_config("ann/model", force_download=True, **cache)


def test_a_hub_that_answers_anything_is_left_to_its_own_library(server, network):
    network(server.url("").rstrip("/"))  # a server that has nothing
    assert unreachable() == ""
    options = {"revision": "v2"}
    assert reach("ann/model", options) == options
