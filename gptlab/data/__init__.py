"""Data: from text, entries and an invented town to batches of inputs and targets."""

from gptlab.data.batching import IGNORE_INDEX, collate
from gptlab.data.instruction import InstructionDataset, load_entries, save_entries, split_entries
from gptlab.data.pretraining import SlidingWindows, encode_documents
from gptlab.data.segments import Example, Segment, encode
from gptlab.data.templates import Template, load_template, template_names
from gptlab.data.town import Town, build_town

__all__ = [
    "IGNORE_INDEX",
    "Example",
    "InstructionDataset",
    "Segment",
    "SlidingWindows",
    "Template",
    "Town",
    "build_town",
    "collate",
    "encode",
    "encode_documents",
    "load_entries",
    "load_template",
    "save_entries",
    "split_entries",
    "template_names",
]
