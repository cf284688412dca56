"""ROUGE-L as Google's rouge-score computes it, and by the character where that one has nothing to say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from gptlab.rouge import lcs_length, rouge_l, rouge_l_scores, rouge_tokens

SCORER = RougeScorer(["rougeL"], use_stemmer=False)
WORDS = ["the", "a", "cat", "dog", "on", "mat,", "The", "CAT!", "don't", "3.14", "x-ray", "café", "-", "...", "(in)"]
sentences = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)
letters = st.text(st.characters(max_codepoint=0x24F))  # ASCII, and letters with accents, which rouge-score drops


def naive_lcs(first, second):
    """The recursion that defines it, as a table."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(candidate=sentences | letters, reference=sentences | letters)
def test_english_is_that_of_rouge_score_to_the_last_bit(candidate, reference):
    theirs = SCORER.score(target=reference, prediction=candidate)["rougeL"]
    assert rouge_l_scores(candidate, reference) == tuple(theirs)
    assert rouge_l(candidate, reference) == theirs.fmeasure


def test_long_texts_are_those_of_rouge_score():
    rng = random.Random(0)
    for length in (1, 63, 64, 65, 200):  # around the words of a machine
        candidate, reference = (" ".join(rng.choices(WORDS, k=rng.randint(1, length))) for _ in range(2))
        theirs = SCORER.score(target=reference, prediction=candidate)["rougeL"]
        assert rouge_l_scores(candidate, reference) == tuple(theirs)


@given(st.lists(st.integers(0, 4)), st.lists(st.integers(0, 4)))
def test_the_bits_hold_the_table(first, second):
    assert lcs_length(first, second) == naive_lcs(first, second) == lcs_length(second, first)


@given(st.text("猫狗坐在上了，。 ab1"), st.text("猫狗坐在上了，。 ab1"))
def test_chinese_characters_are_tokens(candidate, reference):
    """Against a tokeniser and a subsequence of other making."""

    def tokens(text):
        spaced = "".join(f" {letter} " if letter in "猫狗坐在上了" else letter for letter in text)
        return spaced.replace("，", " ").replace("。", " ").split()

    written, wanted = tokens(candidate), tokens(reference)
    assert rouge_tokens(candidate) == written
    common = naive_lcs(written, wanted)
    precision, recall, fmeasure = rouge_l_scores(candidate, reference)
    if not common:
        assert (precision, recall, fmeasure) == (0, 0, 0)
        return
    assert (precision, recall) == (common / len(written), common / len(wanted))
    assert fmeasure == pytest.approx(2 * common / (len(written) + len(wanted)))


def test_what_rouge_score_takes_for_nothing():
    """By its rule Chinese texts have no tokens, so that even equal ones score 0."""
    text = "黑猫坐在垫子上。"
    assert SCORER.score(text, text)["rougeL"].fmeasure == 0
    assert rouge_l(text, text) == 1
    assert rouge_l("ＧＰＴ－２ 有 ５０２５７ 个词", "gpt-2有50257个词") == 1
    assert rouge_tokens("𠮷野家 ねこ カ 고양이 〇") == [*"𠮷野家ねこカ고양이〇"]
    assert rouge_tokens("Кошка — 。") == []


def test_beta_weighs_recall():
    precision, recall, harmonic = rouge_l_scores("the cat", "the black cat sat down")
    assert (precision, recall) == (1, 0.4)
    assert harmonic == pytest.approx(4 / 7)
    assert rouge_l("the cat", "the black cat sat down", beta=2) == pytest.approx(5 * 0.4 / (0.4 + 4))
    assert rouge_l("the cat", "the black cat sat down", beta=0) == precision
    assert rouge_l("the cat", "the black cat sat down", beta=1e6) == pytest.approx(recall)


@pytest.mark.parametrize(("candidate", "reference"), [("", ""), ("", "cat"), ("cat", ""), ("...", "..."), ("。", "。")])
def test_texts_without_tokens_score_nothing(candidate, reference):
    assert rouge_l_scores(candidate, reference) == (0, 0, 0) == tuple(SCORER.score(reference, candidate)["rougeL"])


@pytest.mark.parametrize("beta", [-1, float("nan"), float("inf")])
def test_a_wrong_beta(beta):
    with pytest.raises(ValueError, match=f"beta must be a number >= 0, got {beta}"):
        rouge_l("a", "a", beta=beta)
