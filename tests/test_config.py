import pytest

from gptlab.config import GPT2_SIZES, GPTConfig

BOOK = {
    "vocab_size": 50257,
    "context_length": 1024,
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.1,
    "qkv_bias": False,
}


def test_the_books_mapping_is_a_config():
    assert GPTConfig.of(BOOK) == GPTConfig(**BOOK)
    assert GPTConfig.of(GPTConfig(**BOOK).to_dict()) == GPTConfig(**BOOK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emb_dim": 770}, "770 and 12"),
        ({"n_layers": 0}, "n_layers must be a whole number >= 1, got 0"),
        ({"n_heads": 2.5}, "n_heads .* got 2.5"),
        ({"drop_rate": 1.0}, r"drop_rate must be in \[0, 1\), got 1.0"),
        ({"qkv_bias": "yes"}, "qkv_bias must be True or False, got 'yes'"),
        ({"vocabsize": 3}, "unknown \\['vocabsize'\\]"),
    ],
)
def test_wrong_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig.of(BOOK | change)


def test_missing_keys_are_named():
    with pytest.raises(ValueError, match="missing \\['emb_dim'\\]"):
        GPTConfig.of({key: value for key, value in BOOK.items() if key != "emb_dim"})
    with pytest.raises(ValueError, match="mapping, got int"):
        GPTConfig.of(3)


def test_gpt2_sizes_have_heads_of_64():
    assert {cfg.head_dim for cfg in GPT2_SIZES.values()} == {64}
