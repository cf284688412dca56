import numpy as np
import pytest
import torch

from gptlab.data import SlidingWindows, encode_documents, open_tokens, write_tokens
from gptlab.tokenizer import train_tokenizer

DOCUMENTS = ["The home of Lumika is in Fenn.", "", "The pet of Lumika is a goat. <|endoftext|> 山羊"]


def test_a_file_holds_what_memory_would(tokenizer, tmp_path):
    path = tmp_path / "new" / "corpus.npy"
    count = write_tokens(path, (text for text in DOCUMENTS), tokenizer)
    tokens, expected = open_tokens(path), encode_documents(DOCUMENTS, tokenizer)
    assert isinstance(tokens, np.memmap)
    assert tokens.dtype == np.uint16
    assert count == len(tokens) == len(expected)
    assert tokens.tolist() == expected.tolist() == np.load(path).tolist()
    windows, in_memory = SlidingWindows(tokens, 8, stride=3), SlidingWindows(expected, 8, stride=3)
    assert len(windows) == len(in_memory)
    for mapped, plain in zip(windows, in_memory):
        assert mapped[0].dtype == torch.int64
        assert mapped[0].equal(plain[0])
        assert mapped[1].equal(plain[1])


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    class Large:
        n_vocab, eot_token = 70_000, 69_999
        special_tokens_set = frozenset({"<|endoftext|>"})

        def encode(self, text, **_):
            return [65_536 + ord(letter) for letter in text]

        encode_ordinary = encode

        def decode(self, ids):
            return "".join(chr(token - 65_536) for token in ids)

        def encode_single_token(self, text):
            return self.eot_token

    write_tokens(tmp_path / "t.npy", ["ab"], Large())
    tokens = open_tokens(tmp_path / "t.npy")
    assert tokens.dtype == np.uint32
    assert tokens.tolist() == [65_536 + 97, 65_536 + 98, 69_999]


def test_an_interrupted_writing_leaves_nothing(tokenizer, tmp_path):
    def failing():
        yield "one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(tmp_path / "t.npy", failing(), tokenizer)
    assert not list(tmp_path.iterdir())


def test_wrong_files(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"must end in .npy, got .*t\.bin"):
        write_tokens(tmp_path / "t.bin", ["a"], tokenizer)
    with pytest.raises(ValueError, match="no documents"):
        write_tokens(tmp_path / "t.npy", [], tokenizer)
    with pytest.raises(FileNotFoundError, match="no file"):
        open_tokens(tmp_path / "t.npy")
    np.save(tmp_path / "f.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"uint16 or uint32 tokens, got float64 of shape \(3,\)"):
        open_tokens(tmp_path / "f.npy")
    write_tokens(tmp_path / "t.npy", DOCUMENTS, tokenizer)
    whole = (tmp_path / "t.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"cut\.npy is no complete \.npy file"):
        open_tokens(tmp_path / "cut.npy")
    (tmp_path / "text.npy").write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match="no complete"):
        open_tokens(tmp_path / "text.npy")


def test_many_documents_and_a_growing_header(tmp_path):
    tokenizer = train_tokenizer("abc " * 50, 260)
    assert write_tokens(tmp_path / "t.npy", ("abc " * 40 for _ in range(3000)), tokenizer) == len(
        open_tokens(tmp_path / "t.npy")
    )
