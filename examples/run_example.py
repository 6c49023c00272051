"""Load a RoBERTa with knowledge adapters, infer, save, load again.

    bash run_example.sh                                   # the original's flags and values
    python examples/run_example.py --model_name_or_path pretrained_models/roberta-demo --no_cuda

Needs no data and no training; runs on a CPU too. Without adapters the features are the backbone's own. The loaded
model's features must equal the saved model's bit for bit, or the program ends with an error.
"""

from dataclasses import dataclass

import torch

from kadapter import RobertawithAdapter
from kadapter.console import local_path, run
from kadapter.storage.pretrained import read_tokenizer
from kadapter.training.flags import flag, parse
from kadapter.training.model_arguments import TaskArguments


@dataclass(frozen=True, kw_only=True)
class ExampleArguments:
    """Input and output."""

    text: str = flag("what to encode", "Here is some text to encode")
    output_dir: str = flag("folder that the model is saved into", "./proc/roberta_adapter", type=local_path)
    no_cuda: bool = flag("use the CPU", False)


def main(argv=None):
    args, example = parse(__doc__, [TaskArguments, ExampleArguments], argv, adapter_list="0,11,23")
    device = torch.device("cuda" if torch.cuda.is_available() and not example.no_cuda else "cpu")

    # Load the backbone and the adapters
    others = args.sources()
    if args.untrained:
        raise ValueError("--untrained is a control for fine-tuning; leave it out here.")
    options = {"attn_implementation": args.attn_implementation} if args.attn_implementation else {}
    model = RobertawithAdapter.from_pretrained(
        args.model_name_or_path,
        meta_fac_adaptermodel=others.pop("fac", ""),
        meta_lin_adaptermodel=others.pop("lin", ""),
        adapters=others,
        adapter_config=args.adapter_config(),  # for adapters of the original, whose files do not tell it
        fusion_mode=args.fusion_mode,
        revision=args.revision,
        cache_dir=args.cache_dir,
        **options,
    )
    model.to(device)  # type: ignore[arg-type]
    if args.freeze_bert:
        model.freeze("backbone")
    if args.freeze_adapter or args.train_adapters:
        model.train_adapters(args.trained_adapters())
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"adapters: {list(model.adapters) or 'none'}; parameters: {count:,}, trained: {trained:,}")

    # Infer
    tokenizer = read_tokenizer(
        args.tokenizer_name or args.model_name_or_path, revision=args.revision, cache_dir=args.cache_dir
    )
    inputs = tokenizer(example.text, return_tensors="pt").to(device)
    with torch.no_grad():
        features = model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state  # [1, S, H]
    print(f"last_hidden_state: {list(features.shape)}, begins with {features[0, 0, :4].tolist()}")

    # Save, load again, compare
    model.save_pretrained(example.output_dir)
    tokenizer.save_pretrained(example.output_dir)
    loaded = RobertawithAdapter.from_pretrained(example.output_dir, **options)
    loaded.to(device)  # type: ignore[arg-type]
    with torch.no_grad():
        again = loaded(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    if not torch.equal(features, again):
        raise RuntimeError(f"the model loaded from {example.output_dir} gives other features than the one saved there.")
    print(f"saved to {example.output_dir} and loaded again: the features are equal")
    return features


if __name__ == "__main__":
    run(main)
