"""Special tokens that are added to a tokenizer, byte-level or of another kind."""

import pytest
import tiktoken
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models
from transformers import BertTokenizerFast, GPT2TokenizerFast

from gptlab.data import Segment, encode
from gptlab.tokenizer import (
    END_OF_TEXT,
    ByteLevelEncoding,
    as_tokenizer,
    control_id,
    encode_by_hand,
    gpt2_tokenizer,
    load_tokenizer,
    save_tokenizer,
    tokenizer_files,
    train_tokenizer,
    with_special_tokens,
)

NAMES = ["<eoh>", "<|im_end|>", "[ROLE 1]", "<结束>"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我你好的。<>[]|_", "eo", "##h", "hello", "role", "im", "end"]


def berts(folder):
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return load_tokenizer(folder)


def saved(tokenizer, folder):
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture(params=["byte level", "bert", "bert of transformers", "gpt2 of transformers"])
def each(request, tokenizer, tmp_path):
    """A tokenizer of each kind that can be extended."""
    if request.param == "byte level":
        return tokenizer
    if request.param == "bert":
        return berts(tmp_path)
    if request.param == "bert of transformers":
        berts(tmp_path)
        return BertTokenizerFast(str(tmp_path / "vocab.txt"))
    folder = saved(tokenizer, tmp_path)
    return GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))


def test_the_names_become_ids_and_typed_names_stay_text(each):
    old = as_tokenizer(each)
    new = with_special_tokens(each, NAMES)
    assert new.n_vocab == old.n_vocab + len(NAMES)
    assert new.special_tokens_set == old.special_tokens_set | set(NAMES)
    assert [control_id(new, name) for name in NAMES] == list(range(old.n_vocab, new.n_vocab))
    assert [new.decode([control_id(new, name)]) for name in NAMES] == NAMES
    assert (new.eot_token, control_id(new, END_OF_TEXT)) == (old.eot_token, control_id(old, END_OF_TEXT))
    typed = "hello<eoh> 我[ROLE 1]<|im_end|>\n<结束>"
    assert new.encode_ordinary(typed) == old.encode_ordinary(typed)
    assert not set(NAMES) & old.special_tokens_set, "the tokenizer that was given is as it was"
    segments = [Segment("hello<eoh>", False), Segment("<eoh>", True, control=True)]
    assert encode(segments, new).ids == [*old.encode_ordinary("hello<eoh>"), old.n_vocab]
    with pytest.raises(ValueError, match=r"'<eoc>' is no special token"):
        control_id(new, "<eoc>")


def test_saved_and_loaded_they_are_special_again(each, tmp_path):
    new = with_special_tokens(each, NAMES)
    again = load_tokenizer(saved(new, tmp_path / "out"))
    assert tokenizer_files(again) == tokenizer_files(new)
    assert {name: control_id(again, name) for name in again.special_tokens_set} == {
        name: control_id(new, name) for name in new.special_tokens_set
    }
    assert (again.n_vocab, again.eot_token) == (new.n_vocab, new.eot_token)
    ids = [*new.encode_ordinary("hello 我<eoh>"), *range(new.n_vocab - len(NAMES), new.n_vocab)]
    assert again.decode(ids) == new.decode(ids)
    assert all(name in again.decode(ids) for name in NAMES)


def test_only_new_names_are_added(each):
    new = with_special_tokens(each, NAMES[:2])
    assert with_special_tokens(new, []) is new
    assert with_special_tokens(new, [*reversed(NAMES[:2]), END_OF_TEXT]) is new
    step_by_step = with_special_tokens(new, ["<eoh>", *NAMES[2:]])
    assert tokenizer_files(step_by_step) == tokenizer_files(with_special_tokens(each, NAMES))


def test_a_byte_level_encoding_keeps_its_class_name_and_pattern(tokenizer):
    new = with_special_tokens(tokenizer, NAMES)
    assert type(new) is ByteLevelEncoding
    assert (new.name, new._pat_str) == (tokenizer.name, tokenizer._pat_str)
    text = "hello<eoh> [ROLE 1]x<|endoftext|>"
    assert new.encode(text, allowed_special="all") == encode_by_hand(text, new, "all")
    ranks = tokenizer._mergeable_ranks
    plain = tiktoken.Encoding("other", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={})
    new = with_special_tokens(plain, NAMES)
    assert (type(new), new._pat_str, new.n_vocab) == (tiktoken.Encoding, plain._pat_str, plain.n_vocab + len(NAMES))


def test_gpt2s_own_vocabulary(tmp_path):
    new = with_special_tokens(gpt2_tokenizer(), ["<eoh>", "<eom>"])
    again = load_tokenizer(saved(new, tmp_path))
    theirs = GPT2TokenizerFast(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    theirs.add_special_tokens({"additional_special_tokens": ["<eoh>", "<eom>"]})
    text = "Who are you?<eoh>\nA model.<eom>\n"
    for ours in (new, again):
        assert ours.encode(text, allowed_special="all") == theirs.encode(text)
        assert (control_id(ours, "<eom>"), ours.eot_token, ours.n_vocab) == (50258, 50256, 50259)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("<eoh>", "must be a list of names, got the text '<eoh>'"),
        (["eoh"], r"named like '<name>' or '\[name\]', got 'eoh'"),
        (["<a>", "<eoh"], "got '<eoh'"),
        (["<>"], "got '<>'"),
        (["<a\nb>"], r"got '<a\\nb>'"),
        ([7], "got 7"),
        ([["<a>"]], r"got \['<a>'\]"),
        (["<a>", "<b>", "<a>"], "'<a>' comes twice"),
        (["<\ud800>"], r"character 1 is '\\ud800', half of a surrogate pair"),
    ],
)
def test_names_that_are_refused(each, names, message):
    with pytest.raises(ValueError, match=message):
        with_special_tokens(each, names)


def test_names_that_text_spells_or_that_decode_as_another(tmp_path):
    byte_level = train_tokenizer("<-> <-> <-> <->", 260)
    [*_, there] = byte_level.encode("<->")
    with pytest.raises(ValueError, match=f"'<->' is an ordinary token of the vocabulary, with id {there}"):
        with_special_tokens(byte_level, ["<a>", "<->"])
    folder = saved(byte_level, tmp_path)
    for either in (byte_level, GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))):
        with pytest.raises(ValueError, match="'<é>' would be decoded as '<\ufffd>'"):
            with_special_tokens(either, ["<é>"])
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", "<b>", "a"])}
    words = RustTokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    with pytest.raises(ValueError, match="'<b>' is an ordinary token of the vocabulary, with id 1"):
        with_special_tokens(words, ["<b>"])


def test_a_new_name_must_not_close_texts_in_place_of_the_old(tmp_path):
    chinese = berts(tmp_path)
    with pytest.raises(ValueError, match=r"'</s>' would close texts in place of '\[SEP\]'"):
        with_special_tokens(chinese, ["<eoh>", "</s>"])
    endless = as_tokenizer(RustTokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]")))
    assert endless.eot_token is None
    ended = with_special_tokens(endless, ["<eoh>", "<eos>"])
    assert (ended.eot_token, control_id(ended, END_OF_TEXT)) == (3, 3)


def test_kinds_that_take_no_new_tokens(tmp_path):
    berts(tmp_path)

    class Letters:
        def encode(self, text):
            return [ord(letter) for letter in text]

        def decode(self, ids):
            return "".join(map(chr, ids))

    with pytest.raises(ValueError, match="a Letters takes no new tokens; a tiktoken.Encoding does"):
        with_special_tokens(Letters(), ["<eoh>"])
    without_file = as_tokenizer(BertTokenizerFast(str(tmp_path / "vocab.txt")))
    without_file.file = None  # as transformers' tokenizers in Python have none
    with pytest.raises(ValueError, match=r"a BertTokenizer\w* takes no new tokens"):
        with_special_tokens(without_file, ["<eoh>"])
    gaps = RustTokenizer(models.WordLevel({"[UNK]": 0, "a": 5}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match="the ids of the 2 tokens have gaps: the last is 5"):
        with_special_tokens(gaps, ["<eoh>"])


def test_special_tokens_of_other_tokenizers_are_known_by_name(tmp_path):
    chinese = berts(tmp_path)
    for either in (chinese, as_tokenizer(BertTokenizerFast(str(tmp_path / "vocab.txt")))):
        segments = [Segment("[CLS]", False, control=True), Segment("我[SEP]", False)]
        assert encode(segments, either).ids == [2, *either.encode_ordinary("我[SEP]")]
        assert 3 not in either.encode_ordinary("我[SEP]")
        assert either.encode_single_token("[MASK]") == 4
        with pytest.raises(KeyError, match="hello"):
            either.encode_single_token("hello")
