import json
import random
import subprocess
import sys
import time

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gptlab.data.town import build_town
from gptlab.tokenizer import (
    END_OF_TEXT,
    control_id,
    load_tokenizer,
    save_tokenizer,
    tokenizer_files,
    train_tokenizer,
)

MIXED = (
    "def f(x):\n    return x ** 2  # squares\n\nIt's what we'll say; they've 1234 apples.\t\r\n"
    "从零开始构建一个大模型，注意力就是你所需要的一切。 naïve café 🙂🙃 👩‍👩‍👧 aaaa aaaaa bbb\x00\x07"
)
STRANGE = [
    "",
    " ",
    "\n\n  \n",
    "🙂" * 3,
    "从零开始",
    "\x00\x1f\x7f",
    "\u2028\ufeff",
    END_OF_TEXT,
    "\U0010ffff",
    "e\u0301",
]


@pytest.fixture(scope="module")
def corpus():
    return build_town(3, inhabitants=10, biographies=8, skill_examples=60, skill_train=4, skill_test=2).corpus + MIXED


def reference_trainer(text: str, merges: int) -> Tokenizer:
    """Hugging Face's trainer with the same pattern, bytes and number of merges."""
    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, show_progress=False, initial_alphabet=alphabet)
    reference.train_from_iterator([text], trainer)
    return reference


def test_learns_the_merges_that_hugging_faces_trainer_learns(corpus):
    files = tokenizer_files(train_tokenizer(corpus, 256 + 400 + 1))
    reference = json.loads(reference_trainer(corpus, 400).to_str())["model"]
    assert files["merges.txt"].splitlines()[1:] == [" ".join(pair) for pair in reference["merges"]]
    vocab = json.loads(files["vocab.json"])
    assert vocab.pop(END_OF_TEXT) == 256 + 400
    assert vocab == reference["vocab"]


def test_encodes_as_hugging_face_does_with_the_saved_files(corpus, tmp_path):
    tokenizer = train_tokenizer(corpus, 700)
    save_tokenizer(tokenizer, tmp_path)
    reference = Tokenizer(models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice(MIXED + corpus[:500]) for _ in range(rng.randint(0, 40)))
        assert tokenizer.encode_ordinary(text) == reference.encode(text).ids, text


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


@pytest.mark.parametrize("text", STRANGE)
def test_strange_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


@pytest.mark.parametrize("text", [" " * 10**6 + "x", "\n" * 10**6, "a" + "\t " * 10**6 + "b", "!" * 10**6])
def test_endless_runs_survive_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


def test_the_last_space_of_an_endless_run_stays_with_its_word(tokenizer):
    *_, last = tokenizer.encode_ordinary(" " * 400_000 + "is")
    assert tokenizer.decode([last]) == " is"


@pytest.mark.parametrize("method", ["encode", "encode_ordinary"])
def test_a_lone_surrogate_is_an_error(tokenizer, method):
    with pytest.raises(ValueError, match=r"character 2 is '\\ud83d'"):
        getattr(tokenizer, method)("ab\ud83d")
    with pytest.raises(ValueError, match="surrogate"):
        train_tokenizer("\udc00", 300)


def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, tiktoken.Encoding)
    assert loaded._mergeable_ranks == tokenizer._mergeable_ranks
    assert loaded.eot_token == tokenizer.eot_token == tokenizer.n_vocab - 1
    assert tokenizer_files(loaded) == tokenizer_files(tokenizer)


def test_the_same_text_gives_the_same_vocabulary_under_ties():
    tied = "ab cd ef gh ij kl"  # every pair occurs once
    vocabularies = [train_tokenizer(tied, 262)._mergeable_ranks for _ in range(2)]
    assert vocabularies[0] == vocabularies[1]
    assert b"ab" in vocabularies[0]  # the smallest ids first


def test_two_ways_to_spell_one_token_are_one_token():
    tokenizer = train_tokenizer("aaaa aaaaa aaaaaa aaaaaaa " * 3 + "aaa aa", 262)
    assert len(set(tokenizer._mergeable_ranks.values())) == len(tokenizer._mergeable_ranks) == 261


def test_special_tokens_are_text_unless_asked_for(tokenizer):
    assert tokenizer.eot_token not in tokenizer.encode_ordinary(END_OF_TEXT)
    assert control_id(tokenizer, END_OF_TEXT) == tokenizer.eot_token
    with pytest.raises(ValueError, match="'<pad>' is no special token"):
        control_id(tokenizer, "<pad>")


@pytest.mark.parametrize(
    ("size", "message"), [(256, "got 256"), (280.5, "got 280.5"), (5000, "<= 26\\d for so short a text, got 5000")]
)
def test_impossible_vocabulary_sizes(size, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer("a small text", size)


def test_damaged_files_are_named(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        load_tokenizer(tmp_path)
    files = tokenizer_files(tokenizer)
    vocab, merges = json.loads(files["vocab.json"]), files["merges.txt"].splitlines()
    first, second = ("".join(line.split(" ")) for line in merges[1:3])
    damage = [
        ([], merges, r"vocab\.json must map tokens to the ids"),
        (vocab | {first: vocab[second]}, merges, "each once"),
        (vocab | {first: -1}, merges, "each once"),
        (vocab | {first: "5"}, merges, "each once"),
        ({token: float(rank) for token, rank in vocab.items()}, merges, "each once"),
        (vocab | {first: vocab[second], second: vocab[first]}, merges, r"ids must rise in the order of merges\.txt"),
        (vocab, merges[:9], r"merges\.txt lacks \d+ tokens of vocab\.json, first"),
        (vocab, [*merges, "q z"], r"vocab\.json lacks 1 tokens of merges\.txt, first 'qz'"),
        (vocab, [*merges, "a b c"], "must hold two tokens a line in GPT-2's letters, got 'a b c'"),
        (vocab, [*merges, "你 好"], "in GPT-2's letters, got '你 好'"),
    ]
    for damaged_vocab, damaged_merges, message in damage:
        (tmp_path / "vocab.json").write_text(json.dumps(damaged_vocab), encoding="utf-8")
        (tmp_path / "merges.txt").write_text("\n".join(damaged_merges), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_tokenizer(tmp_path)


def test_files_of_gpt2s_size_load_at_once(tmp_path):
    """Fifty thousand tokens: nothing may be done once for each that looks at all."""
    letters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    pieces, merges = list(letters), []
    while len(merges) < 50_000:
        left = pieces[len(merges) // 26]
        right = letters[len(merges) % 26]
        merges.append(f"{left} {right}")
        pieces.append(left + right)
    base = json.loads(tokenizer_files(train_tokenizer("x", 257))["vocab.json"])
    base.pop(END_OF_TEXT)
    vocab = base | {merge.replace(" ", ""): 256 + n for n, merge in enumerate(merges)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("\n".join(merges), encoding="utf-8")
    start = time.perf_counter()
    assert load_tokenizer(tmp_path).n_vocab == 50_256
    assert time.perf_counter() - start < 20  # it takes 0.3 s; a quadratic loader takes minutes


def test_loading_it_does_not_load_torch():
    code = "import sys, gptlab.tokenizer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
