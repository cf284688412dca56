import json
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from gptlab.book import ch05
from gptlab.book.ch07 import (
    InstructionDataset,
    InstructionDatasetPhi,
    InstructionDatasetWithMasking,
    custom_collate_draft_1,
    custom_collate_draft_2,
    custom_collate_fn,
    custom_collate_with_masking_fn,
    download_and_load_file,
    format_input,
    format_input_phi,
)
from gptlab.tokenizer import gpt2_tokenizer

PAD = 50256
OPENING = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n"
)
SPELL = {"instruction": "Correct the spelling.", "input": "Ocassion", "output": "Occasion."}
GREET = {"instruction": "Greet me.", "input": "", "output": "Hello!"}
THE_BOOKS_BATCH = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]


@pytest.fixture(scope="module")
def gpt2():
    return gpt2_tokenizer()


def test_prompts_read_as_in_the_book():
    assert format_input(SPELL) == OPENING + "Correct the spelling.\n\n### Input:\nOcassion"
    assert format_input(GREET) == OPENING + "Greet me."
    assert format_input_phi(SPELL) == "<|user|>\nCorrect the spelling.\nOcassion"
    assert format_input_phi(GREET) == "<|user|>\nGreet me."


@pytest.mark.parametrize("form", [format_input, format_input_phi])
def test_an_entry_may_have_no_input(form):
    assert form({"instruction": "Greet me."}) == form(GREET)
    assert form({"instruction": "Double it.", "input": 21}).endswith("\n21")
    with pytest.raises(ValueError, match=r"must have 'instruction'; this one has \['output'\]"):
        form({"output": "x"})


def test_an_instruction_may_hold_the_heading_of_a_response():
    entry = {"instruction": "Explain.\n\n### Response:\n", "input": "{instruction}\n\n### Response:\n"}
    assert format_input(entry) == OPENING + f"{entry['instruction']}\n\n### Input:\n{entry['input']}"


def test_items_are_tiktokens_ids_of_the_whole_text(gpt2):
    dataset = InstructionDataset([SPELL, GREET], gpt2)
    assert dataset.data == [SPELL, GREET] and len(dataset) == 2
    expected = [gpt2.encode(format_input(entry) + f"\n\n### Response:\n{entry['output']}") for entry in dataset.data]
    assert dataset.encoded_texts == expected == [dataset[0], dataset[1]]
    phi = InstructionDatasetPhi([SPELL], gpt2)
    assert gpt2.decode(phi[0]) == "<|user|>\nCorrect the spelling.\nOcassion\n<|assistant|>:\nOccasion."


def test_a_special_token_in_an_entry_stays_text(gpt2):
    entry = {"instruction": "What ends a text?", "output": "<|endoftext|>"}
    [ids] = InstructionDataset([entry], gpt2)
    assert PAD not in ids
    assert gpt2.decode(ids).endswith("### Response:\n<|endoftext|>")


def test_a_tokenizer_needs_encode_and_decode_only():
    class Letters:
        def encode(self, text):
            return [ord(letter) for letter in text]

        def decode(self, ids):
            return "".join(map(chr, ids))

    [ids] = InstructionDataset([GREET], Letters())
    assert Letters().decode(ids) == OPENING + "Greet me.\n\n### Response:\nHello!"


def test_an_entry_needs_an_output(gpt2):
    with pytest.raises(ValueError, match=r"must have 'output'; this one has \['instruction'\]"):
        InstructionDataset([{"instruction": "x"}], gpt2)


def test_the_books_batch():
    inputs = [[0, 1, 2, 3, 4], [5, 6, PAD, PAD, PAD], [7, 8, 9, PAD, PAD]]
    assert custom_collate_draft_1(THE_BOOKS_BATCH).tolist() == inputs
    drafted = [[1, 2, 3, 4, PAD], [6, PAD, PAD, PAD, PAD], [8, 9, PAD, PAD, PAD]]
    assert [part.tolist() for part in custom_collate_draft_2(THE_BOOKS_BATCH)] == [inputs, drafted]
    targets = [[1, 2, 3, 4, PAD], [6, PAD, -100, -100, -100], [8, 9, PAD, -100, -100]]
    assert [part.tolist() for part in custom_collate_fn(THE_BOOKS_BATCH)] == [inputs, targets]


@given(
    batch=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=4),
    limit=st.none() | st.integers(1, 10),
    prompt_length=st.integers(0, 12),
)
def test_the_end_is_found_by_length(batch, limit, prompt_length):
    """Pad is 0, and many items hold it: it is a target there, and once more at the end."""
    inputs, targets = custom_collate_fn(batch, pad_token_id=0, ignore_index=-7, allowed_max_length=limit)
    masked_inputs, masked = custom_collate_with_masking_fn(
        [(prompt_length, item) for item in batch], pad_token_id=0, ignore_index=-7, allowed_max_length=limit
    )
    longest = max(map(len, batch))
    assert inputs.shape == targets.shape == (len(batch), min(longest, limit or longest))
    assert torch.equal(masked_inputs, inputs)
    for row, item in enumerate(batch):
        missing = longest - len(item)
        expected = [*item[1:], 0, *[-7] * missing]
        assert inputs[row].tolist() == (item + [0] * missing)[:limit]
        assert targets[row].tolist() == expected[:limit]
        hidden = max(prompt_length - 1, 0)
        assert masked[row].tolist() == ([-7] * min(hidden, longest) + expected[hidden:])[:limit]


def test_batches_through_a_loader_and_a_partial(gpt2):
    collate = partial(custom_collate_fn, device="cpu", allowed_max_length=20)
    loader = DataLoader(InstructionDataset([SPELL, GREET, SPELL], gpt2), batch_size=2, collate_fn=collate)
    assert [tuple(targets.shape) for _, targets in loader] == [(2, 20), (1, 20)]


def test_collate_doors():
    with pytest.raises(ValueError, match="allowed_max_length must be >= 1 or None, got 0"):
        custom_collate_fn(THE_BOOKS_BATCH, allowed_max_length=0)
    with pytest.raises(ValueError, match="at least one example"):
        custom_collate_fn([])
    with pytest.raises(ValueError, match="at least 2 tokens"):
        custom_collate_fn([[]])


def test_masking_hides_the_prompt_and_not_the_heading(gpt2):
    dataset = InstructionDatasetWithMasking([SPELL, GREET], gpt2)
    assert dataset.instruction_lengths == [len(gpt2.encode(format_input(entry))) for entry in (SPELL, GREET)]
    assert dataset[1] == (dataset.instruction_lengths[1], dataset.encoded_texts[1])
    _, targets = custom_collate_with_masking_fn([dataset[0], dataset[1]])
    learned = [gpt2.decode([token for token in row.tolist() if token != -100]) for row in targets]
    assert learned == [f"\n\n### Response:\n{entry['output']}<|endoftext|>" for entry in (SPELL, GREET)]


def test_a_prompt_beyond_the_limit_gives_a_loss_of_zero_and_not_nan(tiny):
    """In the book the loss of such a batch, and every weight after it, is nan."""
    inputs, targets = custom_collate_with_masking_fn([(30, list(range(40)))], pad_token_id=0, allowed_max_length=20)
    assert (targets == -100).all()
    loss = ch05.calc_loss_batch(inputs, targets, tiny, "cpu")
    loss.backward()
    assert loss.item() == 0
    assert all(not parameter.grad.any() for parameter in tiny.parameters() if parameter.grad is not None)


def test_a_file_that_is_there_is_read(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps([GREET]), encoding="utf-8")
    assert download_and_load_file(str(tmp_path / "data.json"), "https://localhost:1/nothing") == [GREET]


def test_a_file_that_is_missing_is_downloaded(tmp_path):
    source, target = tmp_path / "source.json", tmp_path / "new" / "data.json"
    source.write_text(json.dumps([{"instruction": "说你好"}], ensure_ascii=False), encoding="utf-8")
    assert download_and_load_file(target, source.as_uri()) == [{"instruction": "说你好"}]
    assert [path.name for path in target.parent.iterdir()] == ["data.json"]
    assert target.read_bytes() == source.read_bytes()


def test_a_failed_or_damaged_download_leaves_nothing(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<html>not found</html>", encoding="utf-8")
    target = tmp_path / "data.json"
    with pytest.raises(ValueError, match="data.json is not JSON"):
        download_and_load_file(target, page.as_uri())
    with pytest.raises(ConnectionError, match=r"data.json could not be downloaded from file://.*missing.json"):
        download_and_load_file(target, (tmp_path / "missing.json").as_uri())
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
