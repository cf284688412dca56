import pytest
import torch

from gptlab.model import KVCache


def test_room_grows_in_steps_and_keeps_what_is_there():
    layer = KVCache(1, step=4).layers[0]
    kept = torch.randn(2, 1, 11, 3)
    for start, end in [(0, 3), (3, 4), (4, 5), (5, 11)]:
        keys, values = layer.append(kept[:, :, start:end], -kept[:, :, start:end])
        assert keys.equal(kept[:, :, :end])
        assert values.equal(-kept[:, :, :end])
    room = layer._keys
    layer.append(torch.zeros(2, 1, 1, 3), torch.zeros(2, 1, 1, 3))
    assert layer._keys is room  # 12 tokens fit without a copy


def test_reorder_and_truncate():
    cache = KVCache(2)
    for layer in cache.layers:
        layer.append(torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 4, 2), torch.zeros(3, 1, 4, 2))
    cache.reorder(torch.tensor([2, 0]))
    cache.truncate(1)
    keys, _ = cache.layers[1].append(torch.full((2, 1, 1, 2), 9.0), torch.zeros(2, 1, 1, 2))
    assert keys[:, 0, :, 0].tolist() == [[2, 9], [0, 9]]


def test_wrong_use():
    cache = KVCache(1)
    cache.layers[0].append(torch.zeros(2, 1, 3, 2), torch.zeros(2, 1, 3, 2))
    with pytest.raises(ValueError, match="a batch of 2, got 1"):
        cache.layers[0].append(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))
    with pytest.raises(ValueError, match=r"\[0, 3\], got 4"):
        cache.truncate(4)
    with pytest.raises(ValueError, match="got 0 and 64"):
        KVCache(0)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [1, 1, 0, 2], [2], [], [0, 0, 1, 1, 2, 3], [3, 2, 1, 0]])
def test_reordered_rows_are_what_indexing_gives(rows):
    """In place or not; and the next tokens go behind them."""
    cache, rows = KVCache(1, step=4), torch.tensor(rows, dtype=torch.int64)
    kept, more = torch.randn(4, 2, 3, 5), torch.randn(len(rows), 2, 3, 5)
    cache.layers[0].append(kept, -kept)
    cache.reorder(rows)
    keys, values = cache.layers[0].append(more, -more)
    assert keys.equal(torch.cat([kept[rows], more], dim=2))
    assert values.equal(-keys)
