"""Data: from text, entries and an invented town to batches of inputs and targets."""

from gptlab.data.batching import IGNORE_INDEX, collate
from gptlab.data.chat_formats import FORMATS, ChatFormat
from gptlab.data.classification import (
    LabelledExample,
    LabelledTexts,
    balance,
    collate_labelled,
    load_labelled,
    split_in_three,
)
from gptlab.data.conversation import Conversation, Turn
from gptlab.data.conversation_dataset import ConversationDataset
from gptlab.data.conversation_files import (
    as_conversation,
    as_question,
    is_entry,
    load_conversations,
    load_entries_or_conversations,
    save_conversations,
    to_moss,
    to_record,
)
from gptlab.data.grouping import ShuffledBatches
from gptlab.data.instruction import InstructionDataset, load_entries, save_entries, split_entries
from gptlab.data.loader import make_loader
from gptlab.data.mixing import Mixture, MixtureReport, MixtureRow
from gptlab.data.packing import PackedBatch, collate_packed, separate
from gptlab.data.pretraining import SlidingWindows, encode_documents, text_examples
from gptlab.data.rendering import LOSS_RULES, another_template, find_format, find_template, render, template_or_format
from gptlab.data.reviews import Reviews, build_reviews
from gptlab.data.segments import Example, Segment, encode, no_loss_spans
from gptlab.data.templates import Template, load_template, template_names
from gptlab.data.token_files import open_tokens, write_tokens
from gptlab.data.town import Town, build_town

__all__ = [
    "FORMATS",
    "IGNORE_INDEX",
    "LOSS_RULES",
    "ChatFormat",
    "Conversation",
    "ConversationDataset",
    "Example",
    "InstructionDataset",
    "LabelledExample",
    "LabelledTexts",
    "Mixture",
    "MixtureReport",
    "MixtureRow",
    "PackedBatch",
    "Reviews",
    "Segment",
    "ShuffledBatches",
    "SlidingWindows",
    "Template",
    "Town",
    "Turn",
    "another_template",
    "as_conversation",
    "as_question",
    "balance",
    "build_reviews",
    "build_town",
    "collate",
    "collate_labelled",
    "collate_packed",
    "encode",
    "encode_documents",
    "find_format",
    "find_template",
    "is_entry",
    "load_conversations",
    "load_entries",
    "load_entries_or_conversations",
    "load_labelled",
    "load_template",
    "make_loader",
    "no_loss_spans",
    "open_tokens",
    "render",
    "save_conversations",
    "save_entries",
    "separate",
    "split_entries",
    "split_in_three",
    "template_names",
    "template_or_format",
    "text_examples",
    "to_moss",
    "to_record",
    "write_tokens",
]
