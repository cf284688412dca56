import json

import pytest

from gptlab.data import InstructionDataset, load_entries, save_entries, split_entries

GOOD = [{"instruction": "你好", "output": "您好 🙂"}, {"instruction": "a", "input": "b", "output": "c"}]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_files_with_and_without_byte_order_mark(tmp_path, bom, suffix):
    path = tmp_path / f"a.{suffix}"
    text = json.dumps(GOOD) if suffix == "json" else "\n".join(map(json.dumps, GOOD)) + "\n\n"
    path.write_bytes(bom + text.encode())
    assert load_entries(path) == GOOD


def test_saved_files_can_be_read_by_people_too(tmp_path):
    save_entries(tmp_path / "a.json", GOOD)
    assert "您好 🙂" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert load_entries(tmp_path / "a.json") == GOOD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "must hold a JSON list of entries, got a dict"),
        ("[]", "holds no entries"),
        ("[1,", "is not JSON"),
        (
            '[{"instruction": "a", "output": "b"}, "c"]',
            "entry 2 must be an object with instruction and output, got 'c'",
        ),
        (
            '[{"instruction": "a", "response": "b"}]',
            r"entry 1 has no 'output'; its keys are \['instruction', 'response'",
        ),
        ('[{"instruction": "a", "output": "b"}, {"output": "b"}]', "entry 2 has no 'instruction'"),
        ('[{"instruction": "a", "output": 3}]', "entry 1: 'output' must be text, got 3"),
        ('[{"instruction": "a", "output": "b", "input": ["c"]}]', "entry 1: 'input' must be text"),
        ('[{"instruction": "a", "output": "b", "examples": "c"}]', "entry 1: 'examples' must be a list"),
        ('[{"instruction": "a", "output": "b", "examples": [{"input": "c"}]}]', "example 1 has no 'output'"),
        ('[{"instruction": "a", "output": "b", "examples": [{"output": 1}]}]', "example 1 must hold texts"),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "wrong.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_entries(path)


def test_a_wrong_line_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n{oops\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2, is not JSON"):
        load_entries(tmp_path / "a.jsonl")
    with pytest.raises(FileNotFoundError):
        load_entries(tmp_path / "nowhere.json")


def test_splits_are_disjoint_complete_and_reproducible(entries):
    train, validation = split_entries(entries, 0.25, seed=3)
    assert (len(train), len(validation)) == (15, 5)
    assert sorted(entry["output"] for entry in train + validation) == sorted(entry["output"] for entry in entries)
    assert split_entries(entries, 0.25, seed=3) == (train, validation)
    assert split_entries(entries, 0.25, seed=4) != (train, validation)


@pytest.mark.parametrize(("share", "message"), [(0.0, "got 0.0"), (1.0, "got 1.0"), (0.01, "20 entries into 20 and 0")])
def test_empty_splits(entries, share, message):
    with pytest.raises(ValueError, match=message):
        split_entries(entries, share)


def test_examples_are_prompt_response_and_end(tokenizer):
    [example] = InstructionDataset(GOOD[1:], tokenizer)
    trained = [token for token, learned in zip(*example) if learned]
    assert trained == [*tokenizer.encode_ordinary("c"), tokenizer.eot_token]
    assert tokenizer.decode(example.ids).endswith("### Input:\nb\n\n### Response:\nc<|endoftext|>")
    [everything] = InstructionDataset(GOOD[1:], tokenizer, train_on="all")
    assert everything.ids == example.ids
    assert all(everything.trained)


def lengths(tokenizer, entries, **options):
    return [len(example.ids) for example in InstructionDataset(entries, tokenizer, "alpaca_short", **options)]


def test_entries_beyond_the_context(tokenizer, entries):
    long = {"instruction": "Say the number. " * 5, "output": "x" * 60}
    entries = [entries[0], long, entries[1]]
    normal, full, _ = lengths(tokenizer, entries)
    prompt = full - 60 - 1

    fitting = InstructionDataset(entries, tokenizer, "alpaca_short", context_length=full - 1)
    assert not fitting.dropped  # the last token is only a target, so context + 1 tokens fit
    with pytest.raises(ValueError, match=f"entry 2 has {full} tokens, the context holds {full - 2}"):
        InstructionDataset(entries, tokenizer, "alpaca_short", context_length=full - 2)

    context = prompt + 10
    dataset = InstructionDataset(entries, tokenizer, "alpaca_short", context_length=context, too_long="drop")
    assert dataset.dropped == [(2, full)]
    assert len(dataset) == 2
    report = f"1 dropped and 0 cut for the context of {context} (the longest has {full} tokens)"
    assert dataset.length_report() == report

    dataset = InstructionDataset(entries, tokenizer, "alpaca_short", context_length=context, too_long="cut")
    assert dataset.cut == [(2, full)]
    assert len(dataset[1].ids) == context + 1
    assert sum(dataset[1].trained) == context + 1 - prompt
    assert tokenizer.eot_token not in dataset[1].ids  # stopping in the middle is not taught

    one_left = InstructionDataset(entries, tokenizer, "alpaca_short", context_length=prompt, too_long="cut")
    assert sum(one_left[1].trained) == 1
    none_left = InstructionDataset(entries, tokenizer, "alpaca_short", context_length=prompt - 1, too_long="cut")
    assert none_left.dropped == [(2, full)]
    assert normal < prompt


def test_nothing_left_is_an_error(tokenizer, entries):
    with pytest.raises(ValueError, match="no entry to train on: 20 given, 20 dropped"):
        InstructionDataset(entries, tokenizer, context_length=5, too_long="drop")
    with pytest.raises(ValueError, match="no entry to train on: 0 given"):
        InstructionDataset([], tokenizer)
    with pytest.raises(ValueError, match="got 'skip'"):
        InstructionDataset(entries, tokenizer, too_long="skip")
    with pytest.raises(ValueError, match="entry 1 has no 'output'"):
        InstructionDataset([{"instruction": "a"}], tokenizer)
