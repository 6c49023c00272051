"""Runs a script with FSDP over CPU processes, which accelerate offers only where it sees an accelerator.

python -m torch.distributed.run --nproc_per_node 2 tests/sharded.py examples/run_pretrain_lin_adapter.py ...
"""

import os
import runpy
import sys
from pathlib import Path

import accelerate.state
import torch
from accelerate.utils import DistributedType

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent.parent))
initialize = accelerate.state.PartialState.__init__


def pretend(self, *args, **kwargs):
    initialize(self, *args, **kwargs)
    if self._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = DistributedType.MULTI_XPU


os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "RobertaLayer,TransformerAdapter",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
accelerate.state.PartialState.__init__ = pretend
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
