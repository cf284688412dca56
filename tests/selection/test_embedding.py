import re

import numpy as np
import pytest
import torch

from gptlab.selection.embedding import check_embeddings, embed, pieces, unit_rows

TEXTS = [
    "Write a poem about the sea.",
    "Write a short poem about the blue sea!",
    "What is the capital of France?",
    "Name the capital of Spain.",
    "写一首关于大海的诗。",
    "请写一首关于蓝色大海的短诗",
    "法国的首都是哪里？",
    "Sort these numbers: 3, 1, 2",
]


def nearest(rows, number):
    others = rows @ rows[number]
    others[number] = -1
    return int(others.argmax())


class TestWords:
    def test_like_scikit_learns_truncated_svd(self):
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        counts = TfidfVectorizer(analyzer=pieces, sublinear_tf=True).fit_transform(TEXTS)
        expected = TruncatedSVD(3, random_state=5).fit_transform(counts)
        found = embed(TEXTS, dimensions=3, seed=5)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert found.dtype == np.float32
        assert found[:-1] == pytest.approx(expected[:-1], abs=1e-6)
        assert not found[-1].any()  # none of the three knows its words; scikit-learn's row is of rounding errors

    def test_alike_texts_are_nearest_in_english_and_in_chinese(self):
        rows = embed(TEXTS)
        assert [nearest(rows, number) for number in (0, 1, 2, 3, 4, 5)] == [1, 0, 3, 2, 5, 4]
        assert nearest(rows, 6) in (4, 5)  # Chinese, whatever it is about
        assert rows[4] @ rows[5] > 0.4
        assert abs(rows[0] @ rows[4]) < 1e-6

    def test_rows_have_length_one_and_no_more_dimensions_than_there_are(self):
        rows = embed(TEXTS)
        assert rows.shape == (len(TEXTS), len(TEXTS))
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1)
        assert embed(TEXTS, dimensions=2).shape == (len(TEXTS), 2)
        assert embed(["one"]).tolist() == [[pytest.approx(1)]]
        assert embed(["same text"] * 5).shape == (5, 2)  # two words

    def test_the_same_again_and_the_global_random_state_untouched(self):
        np.random.seed(3)
        expected = np.random.random()
        np.random.seed(3)
        first = embed(TEXTS, dimensions=4)
        assert np.random.random() == expected
        assert (first == embed(TEXTS, dimensions=4)).all()

    def test_a_text_with_nothing_in_it_is_like_no_other(self):
        rows = embed([*TEXTS, "", " \n"])
        assert not rows[-2:].any()
        assert rows[:-2].any(axis=1).all()

    def test_signs_count_when_there_is_nothing_else(self):
        assert pieces("?!") == ["?", "!"]
        assert pieces("Ａ１ 你") == ["a1", "你"]
        assert pieces("") == []


class TestModel:
    def test_the_mean_of_the_final_hidden_states(self, tiny, tokenizer):
        ids = tokenizer.encode_ordinary("The pet of Lumika is a goat.")
        with torch.no_grad():
            mean = tiny.forward_embeddings(tiny.embed(torch.tensor([ids]))).mean(dim=1)[0].numpy()
        found = embed(["The pet of Lumika is a goat."], model=tiny, tokenizer=tokenizer)
        assert found[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)

    def test_a_batch_equals_singles(self, tiny, tokenizer):
        together = embed([*TEXTS, ""], model=tiny, tokenizer=tokenizer, batch_size=4)
        alone = [embed([text], model=tiny, tokenizer=tokenizer)[0] for text in TEXTS]
        assert together[:-1] == pytest.approx(np.stack(alone), abs=1e-6)
        assert not together[-1].any()

    def test_the_model_and_the_random_state_stay_as_they_are(self, tiny, tokenizer):
        tiny.train()
        tiny.trf_blocks[0].eval()
        tiny.drop_emb.p = 0.5
        state = torch.get_rng_state()
        first = embed(TEXTS, model=tiny, tokenizer=tokenizer)
        assert (torch.get_rng_state() == state).all()
        assert tiny.training
        assert not tiny.trf_blocks[0].training
        assert (embed(TEXTS, model=tiny, tokenizer=tokenizer) == first).all()
        assert all(parameter.grad is None for parameter in tiny.parameters())

    def test_texts_beyond_the_context_are_cut_and_counted(self, tiny, tokenizer):
        ids = tokenizer.encode_ordinary(long := "goat " * 300)[: tiny.cfg.context_length]
        with pytest.warns(UserWarning, match="2 of 3 texts were cut to the context of 160 tokens") as warned:
            found = embed([long, "goat", long + "mill"], model=tiny, tokenizer=tokenizer)
        assert warned[0].filename == __file__  # the line that called
        cut = embed([tokenizer.decode(ids)], model=tiny, tokenizer=tokenizer)
        assert found[0] == pytest.approx(cut[0], abs=1e-6)

    def test_half_of_the_two_is_not_enough(self, tiny, tokenizer):
        for given in ({"model": tiny}, {"tokenizer": tokenizer}):
            with pytest.raises(ValueError, match="give both or none"):
                embed(TEXTS, **given)


class TestArrays:
    def test_what_is_taken(self):
        assert check_embeddings([[1, 2], [3, 4]], 2).dtype == np.float32
        assert check_embeddings(np.ones((2, 3))).dtype == np.float64
        half = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
        assert check_embeddings(half).tolist() == [[1.0] * 3] * 2

    def test_length_one_for_any_size(self):
        rows = np.array([[3e200, 4e200], [3e-300, -4e-300], [0, 0]])
        assert unit_rows(rows, np.float64) == pytest.approx(np.array([[0.6, 0.8], [0.6, -0.8], [0, 0]]))
        assert unit_rows(rows).dtype == np.float32
        assert rows[0, 0] == 3e200  # a copy

    @pytest.mark.parametrize(
        ("embeddings", "says"),
        [
            ([1.0, 2.0], r"\(entries, dimensions\), got shape \(2,\)"),
            (np.ones((0, 3)), r"got shape \(0, 3\)"),
            ([[1.0], [1.0, 2.0]], "as many for each entry"),
            ([["a", "b"]], "must be numbers"),
            ([[1.0], [np.nan]], "that of entry 1 is not"),
            ([[-np.inf], [1.0]], "that of entry 0 is not"),
        ],
    )
    def test_what_is_not(self, embeddings, says):
        with pytest.raises(ValueError, match=says):
            check_embeddings(embeddings)

    def test_another_length(self):
        with pytest.raises(ValueError, match="3 entries need as many embeddings, got 2"):
            check_embeddings(np.ones((2, 4)), 3)


@pytest.mark.parametrize(
    ("texts", "options", "says"),
    [
        ([], {}, "at least one, got []"),
        ("one text", {}, "several strings, at least one, got 'one text'"),
        (["a", {"instruction": "b"}], {}, "text 1 must be a string, got {'instruction': 'b'}"),
        (["a"], {"dimensions": 0}, "dimensions must be >= 1, got 0"),
        (["a"], {"batch_size": 0}, "batch_size must be >= 1, got 0"),
        (["", "  "], {}, "no text has a word in it"),
    ],
)
def test_what_cannot_be_embedded_is_refused(texts, options, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        embed(texts, **options)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ImportError, match=r"pip install \"gptlab\[data\]\""):
        embed(["a"])
