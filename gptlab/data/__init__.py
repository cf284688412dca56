"""Data: from text, entries and an invented town to batches of inputs and targets."""

from gptlab.data.batching import IGNORE_INDEX, collate
from gptlab.data.classification import (
    LabelledExample,
    LabelledTexts,
    balance,
    collate_labelled,
    load_labelled,
    split_in_three,
)
from gptlab.data.grouping import ShuffledBatches
from gptlab.data.instruction import InstructionDataset, load_entries, save_entries, split_entries
from gptlab.data.loader import make_loader
from gptlab.data.packing import PackedBatch, collate_packed, separate
from gptlab.data.pretraining import SlidingWindows, encode_documents
from gptlab.data.reviews import Reviews, build_reviews
from gptlab.data.segments import Example, Segment, encode
from gptlab.data.templates import Template, load_template, template_names
from gptlab.data.token_files import open_tokens, write_tokens
from gptlab.data.town import Town, build_town

__all__ = [
    "IGNORE_INDEX",
    "Example",
    "InstructionDataset",
    "LabelledExample",
    "LabelledTexts",
    "PackedBatch",
    "Reviews",
    "Segment",
    "ShuffledBatches",
    "SlidingWindows",
    "Template",
    "Town",
    "balance",
    "build_reviews",
    "build_town",
    "collate",
    "collate_labelled",
    "collate_packed",
    "encode",
    "encode_documents",
    "load_entries",
    "load_labelled",
    "load_template",
    "make_loader",
    "open_tokens",
    "save_entries",
    "separate",
    "split_entries",
    "split_in_three",
    "template_names",
    "write_tokens",
]
