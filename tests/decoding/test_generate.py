import gc
import itertools

import pytest
import torch

from gptlab.decoding import generate
from gptlab.decoding.steps import Settings, decode
from gptlab.model import GPTModel


@pytest.fixture
def model():
    """A random model with weights large enough that its choices differ from row to row."""
    torch.manual_seed(0)
    cfg = {"vocab_size": 40, "context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
    return GPTModel(cfg | {"drop_rate": 0.0, "qkv_bias": False}).eval()


def write_slowly(model, prompt, max_new_tokens, stop_ids=()):
    """One prompt, no cache, no padding: the whole sequence again for each token."""
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens and len(ids) <= model.cfg.context_length:
        token = model(torch.tensor([ids]))[0, -1].argmax().item()
        if token in stop_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


PROMPTS = [[1], [5, 6, 7, 8, 9], [3, 3], [0] * 12, [39, 1, 2], [7] * 23]


def test_a_batch_of_any_lengths_equals_each_alone(model):
    expected = [write_slowly(model, prompt, 15) for prompt in PROMPTS]
    assert generate(model, PROMPTS, max_new_tokens=15) == expected
    assert len(set(map(tuple, expected))) > 3


def test_stop_ids_end_a_row_and_are_not_returned(model):
    free = generate(model, PROMPTS, max_new_tokens=15)
    stop = {free[0][4], free[1][2]}
    expected = [write_slowly(model, prompt, 15, stop) for prompt in PROMPTS]
    results = generate(model, PROMPTS, max_new_tokens=15, eos_id=stop, return_details=True)
    assert [result.ids for result in results] == expected
    full = [len(prompt) + len(ids) > 24 for prompt, ids in zip(PROMPTS, expected)]
    reasons = ["context" if f else "length" if len(ids) == 15 else "stop" for f, ids in zip(full, expected)]
    assert [result.reason for result in results] == reasons
    assert {"context", "stop"} <= set(reasons)
    assert len({len(row) for row in expected}) > 2


def test_a_full_context_ends_a_row(model):
    results = generate(model, PROMPTS, max_new_tokens=100, return_details=True)
    lengths = [len(result.ids) for result in results]
    assert {result.reason for result in results} == {"context"}
    assert lengths == [24 - len(prompt) + 1 for prompt in PROMPTS]


def test_finished_rows_leave_the_batch(model):
    stop = {generate(model, PROMPTS[:2], max_new_tokens=5)[0][2]}
    sizes, counts = [], []
    model.final_norm.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[0]))
    generate(model, PROMPTS, max_new_tokens=12, eos_id=stop, on_finished=counts.append)
    assert sizes[0] == len(PROMPTS)
    assert sizes[-1] < sizes[0]
    assert sum(counts) == len(PROMPTS)


def beginning_alike(count, shared):
    """Prompts of different lengths after `shared` tokens that are the same; the shortest is those tokens alone."""
    return [list(range(shared)) + [30 + row % 9] * row for row in range(count)]


@pytest.mark.parametrize(("count", "shared"), [(5, 10), (4, 16), (40, 2), (3, 1)])
def test_prompts_that_begin_alike_are_as_each_alone(model, count, shared):
    prompts = [prompt[:20] for prompt in beginning_alike(count, shared)]
    assert generate(model, prompts, max_new_tokens=9) == [write_slowly(model, prompt, 9) for prompt in prompts]


def test_what_all_prompts_begin_with_is_read_once(model):
    prompts, read = beginning_alike(5, 12), []
    model.final_norm.register_forward_hook(lambda _, inputs, __: read.append(tuple(inputs[0].shape[:2])))
    generate(model, prompts, max_new_tokens=2)
    assert read == [(1, 11), (5, 5), (5, 1)]  # the shortest has 12 tokens, the last of which gives its logits
    read.clear()
    generate(model, prompts[:3], max_new_tokens=1)  # a reading more would cost as much as it saves
    assert read == [(3, 14)]


def test_memory_grows_by_the_caches_room_only(tiny):
    """Bytes of all living tensors, every tenth token."""

    def living():
        real = (torch.Tensor, torch.nn.Parameter)  # and not what torch.compile keeps of the shapes that it has seen
        tensors = [thing for thing in gc.get_objects() if type(thing) in real]
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return sum(storages.values())

    gc.collect()
    steps = decode(tiny, {0: [1, 2, 3], 1: [4]}, Settings(max_new_tokens=140), set())
    sizes = [living() for number, _ in enumerate(steps, start=1) if number % 10 == 0]
    growth = [after - before for before, after in itertools.pairwise(sizes)]
    room = 2 * 64 * 32 * 4 * 2 * 2  # rows, tokens of a step, features, bytes, keys and values, layers
    assert [change for change in growth if change] == [room, room]


def test_nothing_asked_nothing_written(model):
    assert generate(model, [], max_new_tokens=3) == []


@pytest.mark.parametrize(
    ("prompts", "new", "message"),
    [
        ([[1], []], 3, "prompt 2 is empty"),
        ([[1] * 24], 3, "has 24 tokens; the context of 24 has room for 23"),
        ([[1]], -1, "got -1"),
        ([[1]], 2.5, "got 2.5"),
        ([1, 2], 3, "got 1 in place"),
    ],
)
def test_wrong_requests(model, prompts, new, message):
    with pytest.raises(ValueError, match=message):
        generate(model, prompts, max_new_tokens=new)


def test_dropout_is_off_and_the_mode_comes_back():
    torch.manual_seed(0)
    cfg = {"vocab_size": 40, "context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
    model = GPTModel(cfg | {"drop_rate": 0.5, "qkv_bias": False}).train()
    results = [generate(model, PROMPTS, max_new_tokens=10) for _ in range(3)]
    assert model.training
    assert results[0] == results[1] == results[2]
