"""The heuristic: sentences that it reads right, and that its errors are where the docs say."""

import json

import pytest

from gptlab.selection.root_words import RootWords, VerbCount, root_table, root_words


@pytest.mark.parametrize(
    "instruction, verb, noun",
    [
        ("Write a short poem about the sea.", "write", "poem"),
        ("Could you please write me three poems?", "write", "poem"),
        ("You are given a list of numbers. Sort the numbers in descending order.", "sort", "number"),
        ("Given a list of words, find the longest one.", "find", "longest"),
        ("Come up with a list of countries.", "come", "list"),
        ("Turn down a job offer politely.", "turn", "offer"),
        ("Classify the following items: oak, cat.", "classify", "item"),
        ("Identify the correct spelling.", "identify", "spelling"),
        ("Rewrite this sentence using a metaphor.", "rewrite", "sentence"),
        ("Explain how a bicycle works.", "explain", None),
        ("What is the capital of France?", "what", "capital"),
        ("How many liters are in a gallon?", "how", "liter"),
        ("What’s the boiling point of water?", "what", "point"),
        ("Is the sentence correct?", "is", "correct"),  # wrong, as a parser would know
        ("Hello! Translate 'My name is' into French.", "translate", None),
        ("Name two countries, three boxes and a species.", "name", "country"),
        ("List the boxes.", "list", "box"),
        ("Describe the process.", "describe", "process"),
        ("Make the text shorter.", "make", "shorter"),  # said in the docs
        ("请写一首关于春天的诗。", "写", "诗"),
        ("请帮我写一封给老板的请假邮件", "写", "请假邮件"),
        ("总结这篇文章，不超过三句。", "总结", "文章"),
        ("你能给出五个例子吗？", "给出", "例子"),
        ("请用Python写一个函数", "写", "函数"),
        ("根据给定的文本，提取关键词", "提取", "关键词"),
        ("把下面的句子翻译成英文：我爱你", "翻译", None),
        ("为什么天空是蓝色的？", "为什么", None),
        ("描述一下你的家乡。", "描述", "家乡"),
        ("", None, None),
        ("🙂!!", None, None),
        ("Bonjour tout le monde", None, None),
        ("天空", None, None),
    ],
)
def test_sentences(instruction, verb, noun):
    assert root_words(instruction) == RootWords(verb, noun)


def test_a_table_counts_verbs_and_their_nouns():
    texts = ["Write a poem.", "Write a poem!", "Write a song.", "Write.", "Name a colour.", "Zzz", "写诗", "写一首诗"]
    table = root_table(texts, verbs=2, nouns=1)
    assert table.rows == [VerbCount("write", 4, [("poem", 2)]), VerbCount("写", 2, [("诗", 2)])]
    assert (table.n_total, table.n_found, table.n_pairs) == (8, 7, 4)
    assert json.loads(json.dumps(table.to_dict()))["rows"][0] == {"verb": "write", "count": 4, "nouns": [["poem", 2]]}
    assert "found in 7 of 8" in str(table)
    everything = root_table(texts)
    assert [row.verb for row in everything.rows] == ["write", "写", "name"]
    assert everything.rows[0].nouns == [("poem", 2), ("song", 1)]


def test_equal_counts_come_by_the_alphabet():
    assert [row.verb for row in root_table(["Sort it.", "Name it.", "Add it."]).rows] == ["add", "name", "sort"]
    assert root_table([]).rows == []


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="verbs must be a whole number >= 1, got 0"):
        root_table(["a"], verbs=0)
    with pytest.raises(ValueError, match="nouns must be a whole number >= 1, got True"):
        root_table(["a"], nouns=True)
