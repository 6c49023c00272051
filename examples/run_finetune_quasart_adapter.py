"""Open-domain question answering on Quasar-T with a RoBERTa and frozen knowledge adapters (K-Adapter, section 4.2).

    bash run_finetune_quasart_adapter.sh                                        # the paper's values
    bash run_finetune_quasart_adapter.sh --mode reader --comment reader         # in stages (Lin et al., 2018): first
    bash run_finetune_quasart_adapter.sh --mode all --no_paragraph_confidence "" --init_from RUN/best   # ... then both

Data: <data_dir>/{train,dev,test}.{txt,json} as thunlp/OpenQA has them; scripts/convert_quasart.py makes them of the
raw release. Published for RoBERTa-large with both adapters: EM 46.32, F1 53.00 (paper, table 3). Modes,
stages, memory: docs/open_domain.md. Measured here, on the demo world alone: docs/results.md.
"""

from kadapter.console import run
from kadapter.tasks.openqa import QuasarT
from kadapter.tasks.openqa_flags import QuestionArguments, question_task
from kadapter.training.arguments import parse_recipe
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


def main(argv=None):
    args = parse_recipe(__doc__, TaskArguments, QuestionArguments, argv, task_name="quasart", max_seq_length=256)
    return finetune(question_task(QuasarT, args.own), args)


if __name__ == "__main__":
    run(main)
