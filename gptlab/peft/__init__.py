"""Tuning a few parameters: every method under one contract.

`apply(model, LoRA(rank=8))` puts an adapter on; training goes as always, with an optimizer made afterwards;
`save_adapter` writes a file of kilobytes; `merge` makes a plain GPTModel of it again.
"""

from gptlab.peft.adalora import AdaLoRA, RankAllocation
from gptlab.peft.adapted import Adapted, Branch
from gptlab.peft.adapters import Adapter
from gptlab.peft.beginning import Beginning
from gptlab.peft.contract import assert_peft_contract
from gptlab.peft.huggingface import export_peft, import_peft
from gptlab.peft.inject import replace_modules
from gptlab.peft.io import is_adapter, load_adapter, load_tuned, save_adapter
from gptlab.peft.lora import LoRA
from gptlab.peft.manage import apply, disable, remove, trainable_parameters, use
from gptlab.peft.memory import ParameterReport, parameter_report
from gptlab.peft.merging import merge, unmerge
from gptlab.peft.method import METHODS, Method, OnModules
from gptlab.peft.nf4 import dequantize_nf4, quantize_nf4
from gptlab.peft.prefix import PrefixTuning
from gptlab.peft.prompts import PromptTuning, PTuning, insert_virtual, virtual_ids
from gptlab.peft.qlora import QLoRA
from gptlab.peft.tuning import AdapterTuning

__all__ = [
    "METHODS",
    "AdaLoRA",
    "Adapted",
    "Adapter",
    "AdapterTuning",
    "Beginning",
    "Branch",
    "LoRA",
    "Method",
    "OnModules",
    "PTuning",
    "ParameterReport",
    "PrefixTuning",
    "PromptTuning",
    "QLoRA",
    "RankAllocation",
    "apply",
    "assert_peft_contract",
    "dequantize_nf4",
    "disable",
    "export_peft",
    "import_peft",
    "insert_virtual",
    "is_adapter",
    "load_adapter",
    "load_tuned",
    "merge",
    "parameter_report",
    "quantize_nf4",
    "remove",
    "replace_modules",
    "save_adapter",
    "trainable_parameters",
    "unmerge",
    "use",
    "virtual_ids",
]
