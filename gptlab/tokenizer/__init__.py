"""Byte-level byte-pair encoding: learn it from text, save and load it, and GPT-2's own."""

from gptlab.tokenizer.adapter import AdaptedTokenizer, as_tokenizer
from gptlab.tokenizer.by_hand import encode_by_hand
from gptlab.tokenizer.encoding import END_OF_TEXT, GPT2_PATTERN, ByteLevelEncoding, Tokenizer, check_utf8, control_id
from gptlab.tokenizer.gpt2 import gpt2_tokenizer
from gptlab.tokenizer.special import with_special_tokens
from gptlab.tokenizer.storage import VOCABULARY_FILES, load_tokenizer, save_tokenizer, tokenizer_files
from gptlab.tokenizer.training import train_tokenizer

__all__ = [
    "END_OF_TEXT",
    "GPT2_PATTERN",
    "VOCABULARY_FILES",
    "AdaptedTokenizer",
    "ByteLevelEncoding",
    "Tokenizer",
    "as_tokenizer",
    "check_utf8",
    "control_id",
    "encode_by_hand",
    "gpt2_tokenizer",
    "load_tokenizer",
    "save_tokenizer",
    "tokenizer_files",
    "train_tokenizer",
    "with_special_tokens",
]
