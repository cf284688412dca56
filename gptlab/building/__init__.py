"""Building instruction data: from a corpus, from corrected chats, about the model itself, and by asking a model."""

from gptlab.building.corpus_templates import apply_templates, hold_out_templates, load_templates
from gptlab.building.corrections import entries_from_corrections
from gptlab.building.evol_instruct import EvolInstruct, EvolReport
from gptlab.building.evol_prompts import OPERATIONS, evol_prompt
from gptlab.building.identity import Identity, identity_entries, mention_rate, mention_table
from gptlab.building.identity_writing import identity_prompt, parse_entries, write_identity
from gptlab.building.journal import Journal
from gptlab.building.lineage import lineage_text, lineage_tree, read_lineage
from gptlab.building.pairs import load_pairs, split_pairs, unique_pairs
from gptlab.building.seed_tasks import load_seed_tasks, seed_entries
from gptlab.building.self_instruct import SelfInstruct
from gptlab.building.task_report import SelfInstructReport
from gptlab.building.template_writing import parse_templates, template_prompt, write_templates
from gptlab.building.tiny_corpus import tiny_corpus

__all__ = [
    "OPERATIONS",
    "EvolInstruct",
    "EvolReport",
    "Identity",
    "Journal",
    "SelfInstruct",
    "SelfInstructReport",
    "apply_templates",
    "entries_from_corrections",
    "evol_prompt",
    "hold_out_templates",
    "identity_entries",
    "identity_prompt",
    "lineage_text",
    "lineage_tree",
    "load_pairs",
    "load_seed_tasks",
    "load_templates",
    "mention_rate",
    "mention_table",
    "parse_entries",
    "parse_templates",
    "read_lineage",
    "seed_entries",
    "split_pairs",
    "template_prompt",
    "tiny_corpus",
    "unique_pairs",
    "write_identity",
    "write_templates",
]
