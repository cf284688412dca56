"""What is kept is what rouge-score would keep, to the last bit, and Chinese goes by characters."""

import builtins
import random
from functools import cache

import numpy as np
import pytest
from rouge_score import tokenize
from rouge_score.rouge_scorer import _score_lcs

from gptlab.rouge import rouge_l
from gptlab.selection.novelty import NoveltyFilter, _character, novel_instructions

WORDS = ["the", "a", "of", "name", "list", "write", "three", "five", "poem", "about", "cats", "in", "city", "7", "it's"]


def sentences(count, seed):
    """Return sentences of which many are variations of earlier ones."""
    random_ = random.Random(seed)
    texts = []
    for _ in range(count):
        if texts and random_.random() < 0.5:
            words = random_.choice(texts).split()
            for _ in range(random_.randint(0, 4)):
                words[random_.randrange(len(words))] = random_.choice(WORDS).capitalize()
        else:
            words = random_.choices(WORDS, k=random_.randint(3, 14))
        texts.append(" ".join(words) + random_.choice(".?!"))
    return texts


@cache
def peer_scores(texts):
    tokens = [tokenize.tokenize(text, None) for text in texts]
    return [[_score_lcs(other, one).fmeasure for other in tokens] for one in tokens]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 1.0])
def test_the_same_are_kept_as_by_a_loop_over_rouge_score(threshold):
    texts = sentences(120, seed=1)
    scores = peer_scores(tuple(texts))
    kept = []
    for place in range(len(texts)):
        if not any(scores[place][other] > threshold for other in kept):
            kept.append(place)
    assert novel_instructions(texts, threshold=threshold) == kept
    assert threshold == 1.0 or len(kept) < len(texts)


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_the_nearest_are_those_of_rouge_score(k):
    texts = sentences(200, seed=2)
    pool = NoveltyFilter(pool=texts[:180])
    for candidate in texts[180:]:
        tokens = tokenize.tokenize(candidate, None)
        scores = [_score_lcs(tokenize.tokenize(text, None), tokens).fmeasure for text in texts[:180]]
        best = sorted(range(180), key=lambda place: (-scores[place], place))[:k]
        assert pool.nearest(candidate, k) == [(scores[place], place) for place in best]


def test_at_the_boundary_the_last_bit_decides_as_in_rouge_score():
    common = "one two three four five six seven"
    nine, eleven = f"{common} b c", f"{common} d e f g"  # L = 7, n = 9, m = 11
    assert 2 * 7 / (9 + 11) == 0.7
    assert NoveltyFilter(pool=[nine]).nearest(eleven) == [(0.7000000000000001, 0)]
    assert novel_instructions([nine, eleven]) == novel_instructions([eleven, nine]) == [0]
    assert novel_instructions(["a b c d e", "a b c d e f g h i"], threshold=10 / 14) == [0, 1]  # not above


def test_chinese_is_compared_by_characters():
    texts = ["请写一首关于春天的诗。", "请写一首关于秋天的诗！", "把这句话翻译成英文", "ＧＰＴ是什么", "gpt 是什么?"]
    assert novel_instructions(texts) == [0, 2, 3]
    assert NoveltyFilter(pool=texts).nearest(texts[1], k=2) == [(1.0, 1), (rouge_l(texts[1], texts[0]), 0)]


def test_numbers_may_be_numpys():
    pool = NoveltyFilter(np.float32(0.5), ["a b c", "d e f"])
    assert not pool.is_novel("a b x") and pool.nearest("a b x", k=np.int64(1))[0][1] == 0


def test_texts_without_tokens_are_alike_only_if_literally_the_same():
    arabic = "اكتب قصيدة"
    texts = ["🙂", " 🙂\n", "🙃", arabic, "اكتب قصة", arabic, "", " ", "cat"]
    assert novel_instructions(texts) == [0, 2, 3, 4, 6, 8]
    pool = NoveltyFilter(pool=texts)
    assert pool.nearest("🙃", k=2) == [(1.0, 2), (0.0, 0)]
    assert not pool.is_novel(f"{arabic} ")
    assert novel_instructions(["🙂", "🙂"], threshold=1) == novel_instructions(["cat", "cat"], threshold=1) == [0, 1]


def test_other_tokens_serve_other_languages():
    russian = ["назови 3 столицы", "опиши 3 реки", "назови 3 столицы мира"]
    assert novel_instructions(russian) == [0]  # all that is seen is the number
    assert novel_instructions(russian, tokens=str.split) == [0, 1]


def test_a_pool_that_grew_is_one_that_was_given():
    texts = sentences(60, seed=3)
    grown = NoveltyFilter()
    assert grown.is_novel(texts[0]) and grown.nearest(texts[0]) == []
    for text in texts:
        grown.add(text)
        grown.nearest(text)  # asking changes nothing
    given = NoveltyFilter(pool=texts)
    assert len(grown) == len(given) == 60 and grown.texts == texts
    assert grown.nearest("name the city", 60) == given.nearest("name the city", 60)


def test_words_become_characters_that_are_none_of_the_surrogates():
    assert [ord(_character(number)) for number in (0, 0xD7FE, 0xD7FF)] == [1, 0xD7FF, 0xE000]
    assert ord(_character(0x110000 - 2048 - 2)) == 0x10FFFF
    with pytest.raises(ValueError, match="more than 1,112,063 different tokens"):
        _character(0x110000 - 2048 - 1)
    many = NoveltyFilter(pool=[f"w{number}" for number in range(57_000)])  # past the surrogates
    assert many.nearest("w55295 w56999", k=2) == [(2 / 3, 55295), (2 / 3, 56999)]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "0.7", True])
def test_a_threshold_outside_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\], got"):
        novel_instructions(["a"], threshold=threshold)


def test_what_is_no_text_is_refused():
    with pytest.raises(ValueError, match="instruction 2 must be text, got None"):
        novel_instructions(["a", None])
    with pytest.raises(ValueError, match="must be a list of texts, got the text 'Name"):
        novel_instructions("Name a colour.")
    with pytest.raises(ValueError, match="must be a list of texts, got the text 'Name"):
        NoveltyFilter(pool="Name a colour.")
    with pytest.raises(ValueError, match="a text is needed, got 3"):
        NoveltyFilter().add(3)
    for k in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"k must be a whole number >= 1, got {k}"):
            NoveltyFilter().nearest("a", k)


def test_without_rapidfuzz_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("rapidfuzz"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "gptlab\[data\]"'):
        novel_instructions(["a"])
