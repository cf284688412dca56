"""Tokenizers of another kind: of transformers, of tokenizers, or a class of one's own."""

import pytest
from tokenizers import Tokenizer as RustTokenizer
from transformers import AutoTokenizer, BertTokenizer, BertTokenizerFast, GPT2TokenizerFast

from gptlab.data import InstructionDataset, Segment, encode, encode_documents
from gptlab.decoding import respond
from gptlab.tokenizer import AdaptedTokenizer, as_tokenizer, load_tokenizer, save_tokenizer
from gptlab.tokenizer.encoding import END_OF_TEXT

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"我你好从零开始的模型。，",
    "hello",
    "##s",
    "a",
    "##b",
    "!",
    "[",
    "]",
    "sep",
]
TEXTS = ["我的模型，hello!", "你好 你好", "Hellos", "从零开始的 [ SEP ] 模型。", "", "é a"]


@pytest.fixture
def bert_folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return tmp_path


class Letters:
    """The least that a tokenizer can be."""

    def encode(self, text):
        return [ord(letter) % 64 for letter in text]

    def decode(self, ids):
        return "".join(chr(64 + i) for i in ids)


def test_only_line_breaks_end_a_line_of_a_vocabulary(tmp_path):
    """bert-base-chinese has U+2028 as a token."""
    pieces = ["[UNK]", "\u2028", "\x85", "我", "[SEP]"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(pieces).encode() + b"\r\n")
    assert load_tokenizer(tmp_path).encode("我") == [3]
    (tmp_path / "vocab.txt").write_text("[UNK]\n我\n我\n", encoding="utf-8")
    with pytest.raises(ValueError, match="the line '我' comes twice"):
        load_tokenizer(tmp_path)


def test_capital_letters_are_kept_when_the_folder_says_so(bert_folder):
    (bert_folder / "vocab.txt").write_text("[UNK]\nHello\nhello\n", encoding="utf-8")
    assert load_tokenizer(bert_folder).encode("Hello") == [2]
    (bert_folder / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    assert load_tokenizer(bert_folder).encode("Hello") == [1]
    assert load_tokenizer(bert_folder).decode([1, 2]) == "Hello hello"


def test_saving_another_kind_leaves_nothing_of_the_first(tokenizer, bert_folder, tmp_path):
    out = tmp_path / "out"
    chinese = load_tokenizer(bert_folder)
    for saved in (tokenizer, chinese, tokenizer):
        save_tokenizer(saved, out)
        assert load_tokenizer(out).encode("a") == saved.encode("a")


def test_byte_level_encodings_come_back_as_they_are(tokenizer):
    assert as_tokenizer(tokenizer) is tokenizer


def test_berts_vocabulary_gives_transformers_ids(bert_folder):
    ours = load_tokenizer(bert_folder)
    assert isinstance(ours, AdaptedTokenizer)
    theirs = BertTokenizer(str(bert_folder / "vocab.txt"))
    for text in TEXTS:
        assert ours.encode_ordinary(text) == theirs.convert_tokens_to_ids(theirs.tokenize(text)), text
    assert ours.n_vocab == len(PIECES)
    assert ours.encode_single_token(END_OF_TEXT) == PIECES.index("[SEP]") == ours.eot_token
    typed = "a [SEP] b"
    assert 3 not in ours.encode_ordinary(typed)
    assert ours.encode_ordinary(typed) == as_tokenizer(BertTokenizerFast(str(bert_folder / "vocab.txt"))).encode(typed)


@pytest.mark.parametrize("kind", [BertTokenizer, BertTokenizerFast])
def test_tokenizers_of_transformers(bert_folder, kind):
    theirs = kind(str(bert_folder / "vocab.txt"))
    adapted, ours = as_tokenizer(theirs), load_tokenizer(bert_folder)
    for text in TEXTS:
        assert adapted.encode_ordinary(text) == ours.encode_ordinary(text)
    assert adapted.special_tokens_set == {END_OF_TEXT, *PIECES[:5]} == ours.special_tokens_set
    assert all(adapted.encode_single_token(name) == PIECES.index(name) for name in PIECES[:5])
    assert (adapted.eot_token, adapted.n_vocab) == (3, len(PIECES))


def test_gpt2_through_transformers_equals_ours(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    theirs = GPT2TokenizerFast(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    segments = [Segment("The home <|endoftext|> of", False), Segment(END_OF_TEXT, True, control=True)]
    assert encode(segments, theirs) == encode(segments, tokenizer)
    assert encode_documents(["a mill", "a goat"], theirs).equal(encode_documents(["a mill", "a goat"], tokenizer))


def test_a_tokenizer_of_another_kind_is_saved_and_loaded(bert_folder, tmp_path):
    for saved in (load_tokenizer(bert_folder), BertTokenizerFast(str(bert_folder / "vocab.txt"))):
        save_tokenizer(saved, tmp_path / "out")
        again = load_tokenizer(tmp_path / "out")
        assert [again.encode(text) for text in TEXTS] == [as_tokenizer(saved).encode(text) for text in TEXTS]
    assert isinstance(RustTokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")), RustTokenizer)


def test_everything_takes_encode_and_decode(tiny, entries):
    letters = Letters()
    with pytest.raises(ValueError, match=r"is no special token.*as_tokenizer\(tokenizer, end_of_text=ID\)"):
        InstructionDataset(entries, letters)
    adapted = as_tokenizer(letters, end_of_text=63)
    dataset = InstructionDataset(entries, adapted, "alpaca_short")
    assert dataset.examples[0].ids[-1] == 63
    [response] = respond(tiny, adapted, [{"instruction": "Hi"}], "alpaca_short", max_new_tokens=3)
    assert response.text == letters.decode([ord(letter) - 64 for letter in response.text])
    assert encode([Segment("AB", True)], letters).ids == [1, 2]


def test_the_end_of_text_that_an_object_names_itself():
    for attribute in ("eot_token", "eos_token_id", "eos_id"):
        letters = Letters()
        setattr(letters, attribute, 7)
        letters.vocab_size = 64
        adapted = as_tokenizer(letters)
        assert (adapted.encode_single_token(END_OF_TEXT), adapted.n_vocab) == (7, 64)
    with pytest.raises(KeyError, match=r"\[PAD\]"):
        adapted.encode_single_token("[PAD]")


def test_bad_tokenizers(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="needs encode and decode, got a dict"):
        as_tokenizer({})
    with pytest.raises(ValueError, match="a Letters has no file"):
        save_tokenizer(Letters(), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged"):
        load_tokenizer(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tokenizers"):
        load_tokenizer(tmp_path)


def test_auto_tokenizer_reads_what_is_saved_beside_an_exported_model(bert_folder, tmp_path):
    from gptlab.config import GPTConfig
    from gptlab.model import GPTModel
    from gptlab.weights import export_huggingface, load_checkpoint, load_gpt2, save_checkpoint

    model = GPTModel(GPTConfig(vocab_size=len(PIECES) + 3, context_length=16, emb_dim=8, n_heads=2, n_layers=1))
    chinese = load_tokenizer(bert_folder)
    export_huggingface(model, chinese, tmp_path / "exported")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert theirs("我的模型", add_special_tokens=False)["input_ids"] == chinese.encode("我的模型")
    export_huggingface(model, chinese, tmp_path / "exported")  # once more, over its own files
    fast = BertTokenizerFast(str(bert_folder / "vocab.txt"))  # by itself it would add [CLS] and [SEP]
    export_huggingface(model, fast, tmp_path / "fast")
    assert AutoTokenizer.from_pretrained(tmp_path / "fast")("我的模型")["input_ids"] == chinese.encode("我的模型")
    with pytest.raises(ValueError, match="no end-of-text id"):
        without_end = RustTokenizer.from_str((tmp_path / "exported" / "tokenizer.json").read_text(encoding="utf-8"))
        adapted = as_tokenizer(without_end)
        adapted.eot_token = None
        export_huggingface(model, adapted, tmp_path / "no end")
    save_checkpoint(tmp_path / "ours", model, chinese)
    for tokenizer in (load_gpt2(tmp_path / "exported")[1], load_checkpoint(tmp_path / "ours").tokenizer):
        assert tokenizer.encode("我的模型") == chinese.encode("我的模型")
