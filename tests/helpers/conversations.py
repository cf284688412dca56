"""Conversations that several tests use."""

from gptlab.data import Conversation, Turn
from gptlab.tokenizer import ByteLevelEncoding

MOSS_TOKENS = ("<eoh>", "<eot>", "<eoc>", "<eor>", "<eom>")

TALK = Conversation(
    [
        Turn("Where does Lumika live?", "In Fenn."),
        Turn("And what is her pet?", "A goat."),
        Turn("它叫什么名字？", "没有人知道它的名字。"),
    ],
    "You are a guide.\n",
)

WITH_TOOLS = Conversation(
    [
        Turn("你好！", "你好，有什么可以帮你？"),
        Turn(
            "How long is the river?",
            "It is 12 km long <sup><|1|></sup>.",
            "I should look.",
            'Search("river")',
            "\nSearch =>\n<|1|>: 12 km\n",
        ),
        Turn("And the road?", "I do not know.", "I should look again.", 'Search("road")', "\n\n"),
    ],
    "You are an AI assistant.\n- Inner thoughts: enabled.\n- Web search: enabled. API: Search(query)\n",
)


def with_specials(encoding, names):
    """Return the encoding with more special tokens, by tiktoken's own means."""
    special = {**encoding._special_tokens, **{name: encoding.n_vocab + i for i, name in enumerate(names)}}
    return ByteLevelEncoding(
        "more", pat_str=encoding._pat_str, mergeable_ranks=encoding._mergeable_ranks, special_tokens=special
    )
