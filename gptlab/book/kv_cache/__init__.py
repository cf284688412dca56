"""The book's GPT with a key-value cache, over the library's model and cache.

    from llms_from_scratch.kv_cache.gpt2 import GPTModel    becomes    from gptlab.book.kv_cache.gpt2 import GPTModel

`GPTModel` and `generate_text_simple` mean something else in chapter 4, so `gptlab.book` has chapter 4's; here are the
ones that remember. The final form of them all is `gptlab.GPTModel`, `gptlab.KVCache`, `gptlab.generate` and
`gptlab.stream`.
"""

from gptlab.book.kv_cache.generate import (
    generate_text_simple,
    generate_text_simple_cached,
    generate_text_simple_stream,
    trim_input_tensor,
)
from gptlab.book.kv_cache.gpt2 import GPTModel
from gptlab.book.kv_cache.utils import KVCache

__all__ = [
    "GPTModel",
    "KVCache",
    "generate_text_simple",
    "generate_text_simple_cached",
    "generate_text_simple_stream",
    "trim_input_tensor",
]
