# %% [markdown]
# # Chapter 2: Text and tokenizers
#
# **What you will build.** The way from a text to what a GPT computes with: a tokenizer that learns its vocabulary from
# a text (byte-level byte pair encoding, as in GPT-2), the windows of inputs and targets that a model is trained on, and
# the vectors that enter its first layer. At the end, each of your parts gives exactly what the library gives.
#
# **What you need.** Python, and what a matrix is. This is the first chapter. (The numbers begin at 2.)
#
# **How long it takes.** About two hours to read and try. All cells together run in less than half a minute.
#
# **Run it.** Open `notebooks/ch02_text.ipynb`, or run `python chapters/ch02_text/lesson.py` (a script computes the
# same, but shows no pictures).

# %%
import inspect
from collections import Counter
from itertools import pairwise

import regex
import torch

import gptlab
from gptlab import show
from gptlab.tokenizer import GPT2_PATTERN, by_hand
from gptlab.tokenizer.encoding import gpt2_byte_order

# %% [markdown]
# ## 1. Why numbers?
#
# A language model is a function that computes: it multiplies and adds numbers. A text is not made of numbers. So the
# first step is always the same: cut the text into pieces, and give every piece a number, its **id**. The pieces are
# called **tokens**, the set of all tokens is the **vocabulary**, and what turns a text into ids and back is a
# **tokenizer**.
#
# Which pieces? We try characters, then words, then bytes, and in the end something between them.
#
# Our text tells about an invented town. `gptlab.SMALL_TOWN.town()` makes it, the same every time; chapter 7 says more
# about the town. Here we only need its `corpus`: one long string, in which an empty line ends each document.

# %%
corpus = gptlab.SMALL_TOWN.town().corpus
documents = corpus.strip().split("\n\n")
print(f"{len(corpus):,} characters, {len(documents):,} documents. The first three:\n")
print("\n".join(documents[:3]))

# %% [markdown]
# ## 2. Characters as tokens
#
# The simplest vocabulary: every character that occurs in the text gets a number.

# %%
characters = sorted(set(corpus))
id_of_character = {character: number for number, character in enumerate(characters)}
print(len(characters), "characters:", "".join(characters).replace("\n", "↵"))

ids = [id_of_character[character] for character in "A goat follows Saliti."]
print(ids)
print("".join(characters[number] for number in ids))

# %% [markdown]
# Encoding is a look-up in a table, decoding is a look-up in the other direction, and nothing gets lost. Now a text that
# was not there when the vocabulary was made:

# %%
for text in ("A goat in a café", "山羊"):  # 山羊 is "goat" in Chinese
    try:
        print([id_of_character[character] for character in text])
    except KeyError as error:
        print(f"{text!r}: the character {error} has no number")

# %% [markdown]
# Two limits of characters:
#
# - **Unknown characters.** We could give a number to every character of Unicode. There are about 150 000 of them, and
#   new ones every year. Most would hardly ever occur, and a model would learn nothing about them.
# - **Long sequences.** A model takes one step per token. If each token is one letter, a short story needs thousands of
#   steps, and the model must learn again and again that `g`, `o`, `a`, `t` belong together.
#
# ## 3. Words as tokens
#
# Then larger pieces: cut at white space.

# %%
words = Counter(corpus.split())
print(f"{len(words):,} different words; the most frequent: {[word for word, _ in words.most_common(8)]}")
print([word for word in ("goat", "goat.", "Saliti", "miller", "miller,") if word in words])
print([word for word in ("goats", "Goat", "Annabel", "山羊") if word in words], "<- new words: not one is known")

# %% [markdown]
# A sequence is short now, but a new word is unknown again: a name, a plural, a spelling mistake. One can put a token
# like `<|unk|>` in the place of every unknown word. Then nothing fails, but what the word was is lost: `Annabel` and
# `山羊` become the same token, and a model can never write either of them.
#
# And the table grows without end. `goat`, `goat.` and `goats` need three entries, which know nothing of each other.
#
# ## 4. Bytes: nothing is unknown
#
# A computer already has numbers for every text: the bytes in which it is stored. The usual rule is **UTF-8**. It writes
# every character of Unicode as one to four bytes, and a byte is a number from 0 to 255.

# %%
for character in ("g", "é", "山", "羊", "🐐"):
    stored = character.encode("utf-8")
    print(character, " number in Unicode:", ord(character), " bytes:", list(stored), [f"{byte:08b}" for byte in stored])

# %% [markdown]
# Look at the bits on the right:
#
# - An English letter is one byte, which begins with `0`.
# - Other characters have a first byte that begins with `110`, `1110` or `11110`. The number of ones says how many bytes
#   the character has: most accented letters 2, **most Chinese characters 3, most emoji 4**.
# - All further bytes begin with `10`. A byte that begins so is never a whole character.
#
# With a vocabulary of just 256 tokens, every text there is can be written, and nothing is ever unknown. The price is
# the length: even longer sequences than with characters, and three times as long for Chinese.

# %%
for text in ("A goat in a café", "山羊🐐"):
    ids = list(text.encode("utf-8"))
    print(f"{len(text)} characters, {len(ids)} bytes: {ids} -> {bytes(ids).decode('utf-8')!r}")

# %% [markdown]
# ## 5. Byte pair encoding, by hand
#
# We want both: nothing unknown, as with bytes, and short sequences, as with words. **Byte pair encoding** (BPE) starts
# with the bytes and makes longer tokens out of them:
#
# 1. Count all pairs of neighbours.
# 2. Join the most frequent pair, everywhere, into one new token.
# 3. Go on with 1, until there are as many tokens as you want.
#
# (Gage 1994 invented it to make files smaller. Sennrich, Haddow and Birch 2016, algorithm 1, use it for language, on
# characters. Radford et al. 2019, the paper of GPT-2, start from bytes.)
#
# Start with a tiny text. A token is a piece of the text, a `bytes` object; `b"a"` is one byte.

# %%
text = "a goat on a boat, a coat on a goat"
pieces = [bytes([byte]) for byte in text.encode("utf-8")]
print(len(pieces), "pieces:", pieces[:8], "...")

pairs = Counter(pairwise(pieces))  # pairwise("abc") gives (a, b), (b, c)
print(pairs.most_common(5))


# %% [markdown]
# Three pairs come 4 times. We join one of them. Go through the pieces from left to right; where the pair stands, take
# both at once.


# %%
def merge_pair(pieces, pair):
    """Return the pieces with every `pair` of neighbours joined into one."""
    merged, i = [], 0
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == pair:
            merged.append(pair[0] + pair[1])
            i += 2  # both are used up
        else:
            merged.append(pieces[i])
            i += 1
    return tuple(merged)


print(merge_pair(pieces, (b"o", b"a")))

# %% [markdown]
# Mind pairs that overlap. In `aaa` the pair `(a, a)` stands at two places, but the middle `a` can only be used once:

# %%
print(merge_pair((b"a", b"a", b"a"), (b"a", b"a")))

# %% [markdown]
# Now the loop. It begins anew; of equally frequent pairs, `most_common` takes the one that came first in the text.
# (Section 7 uses another rule.) In every line look at the pair on the left, and at how the pieces on the right become
# longer.

# %%
for _ in range(6):
    pair, count = Counter(pairwise(pieces)).most_common(1)[0]
    pieces = merge_pair(pieces, pair)
    joined = "|".join(piece.decode() for piece in pieces)
    print(f"{pair[0].decode()!r:>5} + {pair[1].decode()!r:<6} {count} times  {len(pieces)} pieces: {joined}")

# %% [markdown]
# The algorithm knows nothing about English. It found `oat` and then `goat` only because they come often.
#
# But look at the pieces `'a '` and `' a '`, with spaces inside. The merges do not stop at the end of a word. What
# happens with more text?
#
# ## 6. First cut into words
#
# The same loop on the first 20 000 characters of the town, as one long row of pieces. Here are the longest tokens:

# %%
MERGES = 150  # quick: 20
pieces = tuple(bytes([byte]) for byte in corpus[:20_000].encode("utf-8"))
learned = []
for _ in range(MERGES):
    pair, _often = Counter(pairwise(pieces)).most_common(1)[0]
    pieces = merge_pair(pieces, pair)
    learned.append((pair[0] + pair[1]).decode())
print(*(repr(piece) for piece in sorted(learned, key=len)[-6:]), sep="\n")

# %% [markdown]
# Nearly a whole sentence became one token, with the full stop of the sentence before it. Such a token saves much, but
# only when exactly this sentence comes. And every word gets many forms, one for each neighbour.
#
# So GPT-2 first cuts the text into **words**, and merges only inside of them. The cut is made by a regular expression
# (Radford et al. 2019, section 2.2). The package `regex` is needed, because Python's own `re` has no `\p{L}`:

# %%
print(GPT2_PATTERN)

# %% [markdown]
# The parts between the bars are tried from left to right:
#
# - `'(?:[sdmt]|ll|ve|re)`: an English ending after an apostrophe, such as `'s` or `'ll`
# - ` ?\p{L}+`: letters of any script, with one space before them if there is one, such as `␣goat` or `山羊` (we write ␣
#   where a space is hard to see)
# - ` ?\p{N}+`: digits, in the same way, such as `␣52`
# - ` ?[^\s\p{L}\p{N}]+`: what is neither space nor letter nor digit, such as `.` or `␣=` or `␣🐐`
# - `\s+(?!\S)`: white space, but its last character is left to the word that follows
# - `\s+`: what is still left of white space

# %%
print(regex.findall(GPT2_PATTERN, "Saliti's goat is 52, isn't it?\n\n    x = 10  山羊很好 🐐"))

# %% [markdown]
# Three things to see:
#
# - **Nothing is thrown away.** Join the words, and you have the text again, with all its spaces and lines.
# - **The space belongs to the word that follows.** Almost every English word has a space before it. As a part of the
#   word it costs no token of its own. But `goat` at the very beginning and `␣goat` become different tokens.
# - Chinese has no spaces, so a whole run of characters up to the next punctuation mark counts as one "word".
#
# There is one more gain. Most words come again and again. We keep each different word only once, with its count:

# %%
words = Counter(regex.findall(GPT2_PATTERN, corpus))
print(f"{words.total():,} words, of which {len(words):,} are different; {words.most_common(4)}")
assert "".join(regex.findall(GPT2_PATTERN, corpus)) == corpus


# %% [markdown]
# ## 7. Train a tokenizer on the town
#
# Now the real training. `words` maps each word, as a tuple of pieces, to how often it comes. A pair inside a word that
# comes 50 times counts 50 times.


# %%
def count_pairs(words):
    """Return how often each pair of neighbours occurs inside the words."""
    counts = Counter()
    for pieces, often in words.items():
        for pair in pairwise(pieces):
            counts[pair] += often
    return counts


count_pairs({(b"g", b"o", b"a", b"t"): 3, (b"b", b"o", b"a", b"t"): 2})

# %% [markdown]
# Two conventions, so that the same text gives the same tokenizer every time:
#
# - **The ids.** The first 256 are the single bytes. GPT-2's files do not have them in the order 0, 1, 2, ... but first
#   those that print as a visible character: `!` has the id 0. We take the same order. Every new token gets the next id.
# - **A tie.** Of pairs that come equally often, the one with the smallest ids goes first.

# %%
SINGLE_BYTES = [bytes([byte]) for byte in gpt2_byte_order()]
print(SINGLE_BYTES[:5], "...", SINGLE_BYTES[-3:])


def most_frequent(counts, id_of):
    """Return the pair with the highest count; on a tie the one with the smallest ids."""
    return min(counts, key=lambda pair: (-counts[pair], id_of[pair[0]], id_of[pair[1]]))


# %% [markdown]
# And the loop. One line in it needs a word: two different pairs can spell the same piece, for example `a + bc` and
# `ab + c`. That is one token, not two.


# %%
def learn_tokens(text, vocab_size):
    """Return the tokens, as bytes in the order of their ids; print what happens."""
    pieces = list(SINGLE_BYTES)
    id_of = {piece: number for number, piece in enumerate(pieces)}
    counted = Counter(regex.findall(GPT2_PATTERN, text))
    words = {tuple(bytes([byte]) for byte in word.encode()): often for word, often in counted.items()}
    while len(pieces) < vocab_size:
        counts = count_pairs(words)
        pair = most_frequent(counts, id_of)
        words = {merge_pair(word, pair): often for word, often in words.items()}
        if pair[0] + pair[1] not in id_of:
            id_of[pair[0] + pair[1]] = len(pieces)
            pieces.append(pair[0] + pair[1])
            if len(pieces) <= 262 or len(pieces) % 40 == 0 or len(pieces) == vocab_size:
                tokens = sum(len(word) * often for word, often in words.items())
                print(f"id {len(pieces) - 1}: {pieces[-1].decode()!r:<12} {counts[pair]:6,} times, {tokens:,} tokens")
    return pieces


# %% [markdown]
# It trains live, on the whole corpus. Look at the last column, how many tokens the corpus has. The first merges save
# tens of thousands of tokens each, the last ones less than a thousand. (We learn 499 tokens. The reason for this number
# comes in section 12.)

# %%
TOKENS = 499  # quick: 300
pieces = learn_tokens(corpus, TOKENS)

# %% [markdown]
# Short frequent words are ready at once (`␣the`); after that, parts of rarer words and whole words take turns. All
# tokens that were learned:

# %%
print(" ".join(piece.decode().replace(" ", "␣") for piece in pieces[256:]))

# %% [markdown]
# ## 8. Encode with what was learned
#
# To encode a new text, cut it into words and each word into bytes. Then do the merges **in the order in which they were
# learned**: of all neighbours that form a token, join those whose token has the smallest id. Go on until no neighbours
# form a token.

# %%
id_of = {piece: number for number, piece in enumerate(pieces)}


def merge_word(word, id_of, tell=False):
    """Return the tokens that the bytes of one word merge into."""
    parts = [bytes([byte]) for byte in word]
    while True:
        ids = [id_of.get(left + right, len(id_of)) for left, right in pairwise(parts)]
        if min(ids, default=len(id_of)) == len(id_of):  # no neighbours form a token
            return parts
        i = ids.index(min(ids))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if tell:
            print(f"id {min(ids)}: {parts}")


kilometers = merge_word(b" kilometers", id_of, tell=True)

# %% [markdown]
# Why in this order? It seems simpler to go from left to right and always take the longest token that fits. Compare the
# two on a name from the town, ` Knoll`:


# %%
def longest_first(word, id_of):
    """Another way to cut a word: from the left, always the longest token."""
    parts = []
    while word:
        length = max(length for length in range(1, len(word) + 1) if word[:length] in id_of)
        parts.append(word[:length])
        word = word[length:]
    return parts


print("in the order learned: ", merge_word(b" Knoll", id_of))
print("longest from the left:", longest_first(b" Knoll", id_of))

# %% [markdown]
# Both spell ` Knoll`. But the tokenizer's training always joined `l + l` before `o + l`, because `ll` was learned
# earlier. So a model has only ever seen the first form. In the second form the name would be new to it. It would not
# fail; it would answer worse, and nobody would see why.
#
# ## 9. Decode: join the bytes first
#
# Back to text: look up the pieces, **join their bytes, and decode at the end**.


# %%
def encode(text, id_of):
    """Return the ids of a text."""
    words = regex.findall(GPT2_PATTERN, text)
    return [id_of[piece] for word in words for piece in merge_word(word.encode("utf-8"), id_of)]


def decode(ids, pieces):
    """Return the text of ids; bytes that are no whole character become �."""
    return b"".join(pieces[number] for number in ids).decode("utf-8", errors="replace")


text = "A goat (山羊) 🐐"
ids = encode(text, id_of)
print(ids)
print(decode(ids, pieces))
assert decode(ids, pieces) == text

# %% [markdown]
# The other order, decode each token and join the texts, goes wrong as soon as a character has several tokens. One token
# is then only a part of a character, and a part cannot be shown. `errors="replace"` writes � for it:

# %%
print("".join(decode([number], pieces) for number in ids))

# %% [markdown]
# You may have seen � in the answers of a chat program. A model writes one token at a time. If each one is shown at
# once, a Chinese character or an emoji is broken for a moment. A good program waits until the character is complete.
# And if a model stops in the middle of a character, half a character is all there is.
#
# ## 10. The same as the library
#
# `gptlab.train_tokenizer(text, vocab_size)` learns by the same rules, much faster: it remembers which words hold which
# pair, so that after a merge only those words are counted again. What it returns is an object of the package
# `tiktoken`, which encodes in compiled code. Is yours the same? `vocab_size` is one larger than ours; section 12 says
# why.

# %%
tokenizer = gptlab.train_tokenizer(corpus, vocab_size=TOKENS + 1)

assert [tokenizer.decode_single_token_bytes(number) for number in range(TOKENS)] == pieces
for text in [*documents[:300], "Nobody knows Annabel's café.\n\n   x = 10", "山羊🐐在河边", "  ", ""]:
    assert encode(text, id_of) == tokenizer.encode_ordinary(text)
    assert decode(encode(text, id_of), pieces) == tokenizer.decode(tokenizer.encode_ordinary(text)) == text
print("the same tokens, the same ids, the same text")

# %% [markdown]
# The library also has the encoding in Python, to be read. Compare it with your `merge_word`:

# %%
print(inspect.getsource(by_hand.merge))

# %% [markdown]
# ## 11. How many merges?
#
# More merges make sequences shorter. How far does this go, and for which texts? We let the library learn from the town
# with different numbers of merges, and count how many characters one token stands for on average: in the town's own
# text, in English that is not about the town, and in Chinese.

# %%
NUMBERS = (0, 3, 10, 30, 100, 243, 700, 2000)  # quick: (0, 30, 100)
texts = {
    "the town": "\n\n".join(documents[:200]),
    "other English": "Nobody can say how a language model will answer before somebody has asked it something.",
    "Chinese": "在有人向语言模型提问之前，没有人能说出它会怎样回答。",
}
characters_per_token = {name: [] for name in texts}
for merges in NUMBERS:
    trained = gptlab.train_tokenizer(corpus, 257 + merges)
    for name, text in texts.items():
        characters_per_token[name].append(len(text) / len(trained.encode_ordinary(text)))

# %%
figure, [axis] = show.new_axes(7, 3.6)
for (name, values), marker in zip(characters_per_token.items(), "os^"):
    axis.plot(NUMBERS, values, marker=marker, label=name)
limit = len(texts["the town"]) / len(regex.findall(GPT2_PATTERN, texts["the town"]))
axis.axhline(limit, color="black", linestyle=":", label="the town, whole words")
axis.set_xscale("symlog", linthresh=3)
axis.set(xlabel="merges learned from the town", ylabel="characters per token", xlim=(-0.3, 3000), ylim=(0, 4.2))
axis.set_xticks(NUMBERS, [str(merges) for merges in NUMBERS], fontsize=8)
axis.minorticks_off()
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
figure

# %% [markdown]
# What the picture says (mind its lower axis: each mark stands for about three times as many merges as the one before):
#
# - **The town**: the curve rises, and then it hardly does. The dotted line is the limit: no token is longer than a
#   word, so it cannot get better than one token per word. From 700 merges to 2000 the vocabulary more than doubles, and
#   gains next to nothing. (We took 243: a larger vocabulary costs memory too, see section 15.)
# - **Other English** gains less than half as much. Frequent pieces such as `␣be` and `␣it` help, other words are
#   spelled.
# - **Chinese** gains nothing at all. There was no Chinese in the text that the merges were learned from, so each
#   character stays 3 bytes, 3 tokens. It still *works*: nothing is unknown.
#
# So a tokenizer is good for the text that it learned from. The algorithm does not prefer any language; the same loop on
# a small Chinese text learns Chinese:

# %%
chinese = "河边有一座磨坊，磨坊里有一只山羊。山羊每天去河边喝水，磨坊的主人也每天去河边打水。" * 2
of_chinese = gptlab.train_tokenizer(chinese, vocab_size=257 + 50)
learned = [of_chinese.decode_single_token_bytes(number) for number in range(256, 256 + 50)]
print([piece.decode() for piece in learned if piece.decode(errors="ignore").encode() == piece])
print(f"{len(chinese)} characters: {len(tokenizer.encode_ordinary(chinese))} tokens of the town,", end=" ")
print(f"{len(of_chinese.encode_ordinary(chinese))} tokens of its own")

# %% [markdown]
# First pairs of bytes become parts of a character, then characters, then words: `河边` (riverside), `山羊` (goat).
#
# ## 12. A special token: the end of a text
#
# Our corpus is many documents. A model should know where one ends: what comes after it has nothing to do with it. For
# this there is one more token, which no text can spell. Its name is `<|endoftext|>`. Here it has the id after all the
# others: 499 learned tokens and this one make a vocabulary of 500.

# %%
END = tokenizer.eot_token  # "end of text"
print("vocabulary:", tokenizer.n_vocab, " id of <|endoftext|>:", END)

# %% [markdown]
# What if somebody *types* these characters, for example in a question to the model? `encode_ordinary` takes every text
# as text. The id 499 cannot come out of it. Only when a program asks for it with `allowed_special`, the name becomes
# the one id:

# %%
typed = "a<|endoftext|>"
print([show.token_text(tokenizer, number) for number in tokenizer.encode_ordinary(typed)])
print([show.token_text(tokenizer, number) for number in tokenizer.encode(typed, allowed_special="all")])
assert END not in tokenizer.encode_ordinary(typed)

# %% [markdown]
# `show.token_text` gives a token's text, with ␣ for a space, and `\xe5` and the like for bytes that are no whole
# character. We shall use it often.
#
# This is a matter of safety too: what a reader types must never become a command to the model. In this library, only
# the program itself puts special tokens in. Here the documents become one long row of ids, each closed by the end of
# text, by hand and by the library:

# %%
row = [number for document in documents for number in [*tokenizer.encode_ordinary(document), END]]
tokens = gptlab.encode_documents(documents, tokenizer)
assert tokens.tolist() == row
print(tokens.shape, tokens.dtype, f"- {len(corpus) / len(tokens):.2f} characters per token")
print("".join(show.token_text(tokenizer, number) + "|" for number in row[:90]))

# %% [markdown]
# `tokens` is a **tensor**, PyTorch's array of numbers, with shape `(N,)`: N ids in a row.
#
# ## 13. GPT-2's vocabulary, and the town's
#
# GPT-2's tokenizer works by the same rules. It has 50 000 merges, learned from web pages, mostly English. With the 256
# bytes and `<|endoftext|>` this makes 50 257 tokens. `gptlab.gpt2_tokenizer()` finds its files if they are on your
# computer, or else tries to download them. Without them, the lesson goes on with the town's tokenizer alone.

# %%
vocabularies = {"the town": tokenizer}
try:
    vocabularies["GPT-2"] = gptlab.gpt2_tokenizer()
except OSError as error:
    print("We go on without GPT-2's vocabulary.", error)
for name, vocabulary in vocabularies.items():
    print(f"{name}: {vocabulary.n_vocab:,} tokens")


# %% [markdown]
# How does a word split? Each `|` is a border between two tokens.


# %%
def split(text, tokenizer):
    return "|".join(show.token_text(tokenizer, number) for number in tokenizer.encode_ordinary(text))


for text in (" kilometers", " favourite", " Saliti", "goat", " goat", " Goat", " 520 521", "山羊", "🐐"):
    print(f"{text!r:<14}", *(f"{name}: {split(text, vocabulary):<30}" for name, vocabulary in vocabularies.items()))

# %% [markdown]
# What to see here:
#
# - A frequent word is one token, in each vocabulary for its own text: `␣kilometers` is one token in the town's. The
#   name `␣Saliti` is spelled from pieces by both.
# - `goat`, `␣goat` and `␣Goat` split differently. A model must learn that they mean the same.
# - A number is cut where its digits came together often in the training text, not by their places: to GPT-2, `␣520` is
#   one token and `␣521` is two. This makes arithmetic hard to learn. The town's corpus therefore writes numbers with
#   spaces: `5 2 1`.
# - Chinese characters and emoji are cut into bytes, some of which GPT-2 has merged.
#
# Now whole sentences. We count the tokens that each vocabulary needs, and beside it the number of bytes, which is a
# tokenizer without any merges. The English and the Chinese sentence say the same.

# %%
sentences = {
    "town": "Every evening Saliti walks home to Wick by the river.",
    "English": "Nobody knows what a language model will answer before it is asked.",
    "Chinese": "在被提问之前，没有人知道语言模型会怎样回答。",
    "emoji": "🐐🚀🎉🙂🐼🌍👍🎲",
    "Python": "    for number in range(10):\n        print(number + 1)",
}
table = {"bytes": [len(text.encode("utf-8")) for text in sentences.values()]}
for name, vocabulary in vocabularies.items():
    table[name] = [len(vocabulary.encode_ordinary(text)) for text in sentences.values()]

# %%
figure, [axis] = show.new_axes(7, 3.4)
labels = [f"{kind}\n({len(text)} characters)" for kind, text in sentences.items()]
width = 0.8 / len(table)
for number, ((name, counts), hatch) in enumerate(zip(table.items(), ("", "//", ".."))):
    places = [place + (number - (len(table) - 1) / 2) * width for place in range(len(labels))]
    bars = axis.bar(places, counts, width * 0.92, label=name, hatch=hatch, edgecolor="white")
    axis.bar_label(bars, fontsize=8)
axis.set_xticks(range(len(labels)), labels, fontsize=8)
axis.set_ylabel("tokens")
axis.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.16))
figure

# %% [markdown]
# Compare the English and the Chinese bars. The Chinese sentence has a third of the characters, and by chance the same
# number of bytes. But GPT-2 needs 13 tokens for the English sentence and 49 for the Chinese one, nearly four times as
# many. A model with a limit of, say, 1000 tokens can therefore read only about a quarter as much in Chinese, and an
# answer takes about four times as long. That is why models for Chinese learn their own vocabulary, from much Chinese
# text.
#
# Look at Python too: GPT-2 spends a token on nearly each space at the beginning of a line. And look at the town: even
# there, 500 tokens cannot do what 50 257 can. But a table of 50 257 rows is far too large for our small model, as
# section 15 shows.
#
# ## 14. What a model is trained on: a sliding window
#
# A GPT learns one thing only: **given some tokens, what is the next one?** The text itself holds the answers. Take a
# **window** of T tokens as inputs. The targets are the same window, one token further on.

# %%
T = 6
inputs, targets = tokens[:T], tokens[1 : T + 1]
print("inputs: ", inputs.tolist())
print("targets:", targets.tolist())
for place in range(T):
    seen = tokenizer.decode(inputs[: place + 1].tolist())
    print(f"given {seen!r:<24} the next is {tokenizer.decode([targets[place].item()])!r}")

# %% [markdown]
# So one window holds T questions at once: at every place the model sees the inputs up to there, and shall say the
# target of that place. (How a place is kept from seeing later ones is in chapter 3.)
#
# A long row of tokens gives many windows. The next one begins `stride` tokens further on:


# %%
def windows(tokens, length, stride):
    """Return the inputs and the targets of all windows, each (number of windows, length)."""
    inputs, targets = [], []
    for start in range(0, len(tokens) - length, stride):
        inputs.append(tokens[start : start + length])
        targets.append(tokens[start + 1 : start + length + 1])
    return torch.stack(inputs), torch.stack(targets)


inputs, targets = windows(torch.arange(14), length=4, stride=4)
print(inputs, targets, sep="\n")

# %% [markdown]
# Here the "tokens" are 0, 1, 2, ..., so that one can see where they went. Why does `range` end at
# `len(tokens) - length`? A window needs `length` inputs, *and one token more* for its last target. With 14 tokens, the third window
# ends in the target 12; a fourth one would need tokens that are not there.
#
# What does the stride do? We draw the windows of 17 tokens for three strides, and count how often each token is a
# target.

# %%
figure, axes = show.new_axes(9, 2.6, columns=3)
for axis, stride in zip(axes, (4, 2, 6)):
    inputs, targets = windows(torch.arange(17), length=4, stride=stride)
    for number, (row, goal) in enumerate(zip(inputs.tolist(), targets.tolist())):
        axis.barh(number - 0.19, 4, left=row[0] - 0.5, height=0.34, color=show.COLORS[0])
        axis.barh(number + 0.19, 4, left=goal[0] - 0.5, height=0.34, color=show.COLORS[5], hatch="///")
    for token, often in enumerate(torch.bincount(targets.flatten(), minlength=17).tolist()):
        axis.text(token, 7.4, str(often), ha="center", fontsize=7, weight="bold" if often == 0 else "normal")
    axis.set(title=f"stride {stride}", xlim=(-1, 17), ylim=(7.9, -0.6), xlabel="token; above it: how often a target")
    axis.set_xticks(range(0, 17, 4))
    axis.set_yticks([])
axes[0].set_ylabel("windows")
figure.legend(axes[0].patches[:2], ["inputs", "targets"], ncols=2, loc="outside upper center", frameon=False)
figure

# %% [markdown]
# The first token is never a target, as nothing comes before it. For the others:
#
# - **stride = length** (left): every token is a target once (but for a rest at the end that is too short for a window;
#   17 tokens leave none). No window repeats another.
# - **stride < length** (middle): windows overlap, most tokens are targets several times, each time with another number
#   of tokens before them. That is more work on the same text.
# - **stride > length** (right): some tokens (the bold 0) are never a target, so nothing is learned from them.
#
# The library's `gptlab.SlidingWindows` is a data set: it cuts a window out when it is asked for it, so that a long row
# is not stored many times. Compare:

# %%
library = gptlab.SlidingWindows(tokens, length=32, stride=16)
inputs, targets = windows(tokens, length=32, stride=16)
assert len(library) == len(inputs)
for number in (0, 1, 500, len(library) - 1):
    assert torch.equal(library[number][0], inputs[number]) and torch.equal(library[number][1], targets[number])
print(inspect.getsource(gptlab.SlidingWindows.__getitem__))


# %% [markdown]
# ## Find the mistake
#
# To see whether windows are right, we need something that learns from them. The simplest language model is a table of
# counts: how often does each token follow each other token? To guess the next token, it takes the one that followed
# most often.


# %%
def count_followers(inputs, targets):
    """Return counts (V, V): counts[a, b] says how often b was the target of a."""
    V, ones = tokenizer.n_vocab, torch.ones(inputs.numel())
    return torch.zeros(V, V).index_put((inputs.flatten(), targets.flatten()), ones, accumulate=True)  # adds up the ones


def share_right(counts, inputs, targets):
    """Return the share of targets that are guessed."""
    return (counts.argmax(dim=1)[inputs] == targets).float().mean().item()


def write(counts, token, length):
    """Return the text that begins with a token and goes on with the guess, again and again."""
    ids = [token]
    for _ in range(length):
        ids.append(counts[ids[-1]].argmax().item())
    return tokenizer.decode(ids)


# %% [markdown]
# Somebody writes the windows in a shorter way, counts on the first nine tenths of the tokens, and tests on the last
# tenth. `rows` are windows of `length + 1` tokens.


# %%
def shorter_windows(tokens, length, stride):
    rows = tokens.unfold(0, length + 1, stride)  # (number of windows, length + 1)
    return rows[:, :-1], rows[:, :-1]


nine_tenths = len(tokens) * 9 // 10
counts = count_followers(*shorter_windows(tokens[:nine_tenths], 32, 32))
right = share_right(counts, *shorter_windows(tokens[nine_tenths:], 32, 32))
print(f"{right:.1%} of the next tokens are guessed, in text that was not counted")
print(repr(write(counts, tokenizer.encode_ordinary("The")[0], 12)))

# %% [markdown]
# Nothing failed, and the result looks splendid: every single token is guessed. What is wrong? Decide from what can be
# seen.
#
# <details><summary>The answer</summary>
#
# A table that looks at one token cannot know the next one every time: after `The` many words may come. **A result that
# is too good is a symptom.** The text that it writes says the rest: each token is followed by itself. The targets are
# not shifted: they *are* the inputs, so the table has learned to copy. It should be `rows[:, :-1]` and `rows[:, 1:]`.
#
# A large model shows the same: the loss (a measure of how wrong the guesses are, chapter 5) falls to almost 0 within a
# few steps, and what it writes is a repetition of one token.
#
# </details>


# %%
def repaired_windows(tokens, length, stride):
    rows = tokens.unfold(0, length + 1, stride)
    return rows[:, :-1], rows[:, 1:]


assert all(torch.equal(*both) for both in zip(repaired_windows(tokens, 32, 16), windows(tokens, 32, 16)))
counts = count_followers(*repaired_windows(tokens[:nine_tenths], 32, 32))
right = share_right(counts, *repaired_windows(tokens[nine_tenths:], 32, 32))
print(f"{right:.1%} of the next tokens are guessed")
print(repr(write(counts, tokenizer.encode_ordinary("The")[0], 12)))

# %% [markdown]
# About a third, from one token back. This is an honest number, and the text looks like the town's. To do better, a
# model must look at more than one token; that is what the next chapters are about.
#
# ## 15. Embeddings: a vector for each token
#
# An id is a *name*, not an amount. The token 300 is not twice as much as the token 150. To compute with tokens, each
# one gets a **vector** of D numbers, its **embedding**. All of them together are a table with V rows, one for each
# token of the vocabulary. The numbers begin at random, and are learned together with the rest of the model.

# %%
torch.manual_seed(2)
V, D = 8, 3  # a tiny vocabulary, short vectors
table = torch.randn(V, D)
ids = torch.tensor([5, 1, 5])
print(table[ids])

# %% [markdown]
# Look at the first and the last row: the same id gives the same vector. Books often write this as a product with a
# matrix. Write the id as a **one-hot** row, which is 1 at the place of the id and else 0:
#
# $$\text{onehot}(5) = (0, 0, 0, 0, 0, 1, 0, 0), \qquad \text{onehot}(i)\, E = E_i$$
#
# All rows of the table $E$ are multiplied by 0, but for row $i$. The result is that row. Nobody computes it so, as the
# look-up gives the same without multiplying:

# %%
one_hot = torch.nn.functional.one_hot(ids, V).float()  # (3, V)
print(one_hot)
assert torch.allclose(one_hot @ table, table[ids])

# %% [markdown]
# PyTorch's layer for it is `torch.nn.Embedding(V, D)`: a table, and a look-up. It takes ids of any shape and puts D
# numbers in the place of every id. A batch of B rows with T tokens, shape `(B, T)`, becomes `(B, T, D)`:

# %%
embedding = torch.nn.Embedding(V, D)
batch = torch.tensor([[5, 1, 5, 0], [2, 2, 7, 3]])  # (B, T) = (2, 4)
print(batch.shape, "->", embedding(batch).shape)
assert torch.equal(embedding(batch), embedding.weight[batch])
for name, V_of, D_of in (("GPT-2 small", 50_257, 768), ("GPT-2 small with 500 tokens", 500, 768), ("ours", 500, 128)):
    print(f"{name}: {V_of:,} x {D_of} = {V_of * D_of:,} numbers in the table")

# %% [markdown]
# GPT-2 small has about 124 million numbers in all. Nearly a third of them are in this table. This is the price of a
# large vocabulary. Our model, which is built in chapter 4, has less than a million in all.
#
# **Why vectors?** So that tokens that are used alike can have vectors that are alike. We have no trained model yet, but
# there is a simple vector that shows the idea: the counts from above. What follows a token, and what comes before it,
# says how it is used. For each of some tokens we take both, as one long vector of length 1. The product of two such
# vectors (place by place, added up) is 1 when they point in the same direction, and 0 when they have nothing in common.

# %%
groups = [" 1", " 2", " 3", " 4", " 5", " P", " G", " M", " V", " F", "a", "e", "i", "o", "u"]
groups += [" first", " last", " digits", " numbers", "The", "It", "On"]
chosen = [ids[0] for ids in map(tokenizer.encode_ordinary, groups) if len(ids) == 1]
vectors = torch.cat([counts, counts.T], dim=1)[chosen].sqrt()  # sqrt: so that one frequent neighbour is not all
vectors = vectors / vectors.norm(dim=1, keepdim=True)
alike = vectors @ vectors.T

figure, [axis] = show.new_axes(6, 5)
image = axis.imshow(alike.numpy(), cmap="Blues", vmin=0, vmax=1)
labels = show.token_labels(chosen, tokenizer)
axis.set_xticks(range(len(chosen)), labels, rotation=90)
axis.set_yticks(range(len(chosen)), labels)
figure.colorbar(image, label="how alike the neighbours are")
figure

# %% [markdown]
# Look for dark squares. The digits are used alike. So are the capital letters that begin names, the vowels inside the
# names, `␣first` and `␣last`, `␣digits` and `␣numbers`, and the words that begin a document. Nobody told the table what
# a digit or a vowel is. In a GPT the vectors are not counted but learned, and for the same reason they come out alike
# for tokens that are used alike.
#
# ## 16. Positions
#
# A table of vectors does not know *where* a token stands. Here are two sentences of the same tokens. As bags of
# vectors, they are the same, for example in their mean:

# %%
D = 16
torch.manual_seed(3)
token_table = torch.randn(tokenizer.n_vocab, D)
first = torch.tensor(tokenizer.encode_ordinary(" the house on the road"))
second = torch.tensor(tokenizer.encode_ordinary(" the road on the house"))
print(first.tolist(), second.tolist())
print("the same mean:", torch.allclose(token_table[first].mean(dim=0), token_table[second].mean(dim=0), atol=1e-5))

# %% [markdown]
# Attention, the subject of chapter 3, sums over tokens much like such a mean: without more it does not see in which
# order the earlier tokens stand. So GPT-2 has a second table, with a vector for each **position** 0, 1, 2, ... It is
# learned too. What enters the model is the sum of both:
#
# $$x_t = E_{\text{token}_t} + P_t$$

# %%
context_length = 32  # how many positions there are
position_table = torch.randn(context_length, D)


def embed(ids):
    """Return token vectors plus position vectors: (B, T) -> (B, T, D)."""
    T = ids.shape[1]
    return token_table[ids] + position_table[:T]  # (B, T, D) + (T, D): the same positions for every row


x, y = embed(first.unsqueeze(0)), embed(second.unsqueeze(0))  # unsqueeze makes a batch of one row
same = (x == y).all(dim=2)[0].tolist()
for number, other, equal in zip(first.tolist(), second.tolist(), same):
    mine, theirs = show.token_text(tokenizer, number), show.token_text(tokenizer, other)
    print(f"{mine:>8} {theirs:>8}  {'the same vector' if equal else 'another vector'}")

# %% [markdown]
# The same token at the same place has the same vector in both sentences. At another place it has another one, and this
# is what the model can see. The two `␣the` of one sentence differ now as well:

# %%
places = (first == first[0]).nonzero().flatten().tolist()
print("places of ␣the:", places, " the same vector?", torch.equal(x[0, places[0]], x[0, places[-1]]))

# %% [markdown]
# The table of positions also sets the limit of the model: there is no row for a position after the last. This is the
# **context length**: 1024 tokens for GPT-2, 256 for our model. A longer text must be cut.
#
# ## 17. All of it, and the library
#
# Your whole road, from text to vectors, against the library's. `gptlab.GPTModel` is the model of chapter 4; here it is
# a box with random numbers. We use its two tables, and look at what enters its first block. For this PyTorch has hooks:
# functions that are called when a part of a model has run. Ours notes what the part returned.

# %%
torch.manual_seed(4)
config = gptlab.GPTConfig(vocab_size=tokenizer.n_vocab, context_length=32, emb_dim=D, n_heads=1, n_layers=1)
model = gptlab.GPTModel(config)
token_table, position_table = model.tok_emb.weight, model.pos_emb.weight

row = torch.tensor([number for text in documents[:50] for number in [*encode(text, id_of), len(pieces)]])
inputs, targets = windows(row, length=32, stride=32)
mine = embed(inputs)  # (number of windows, 32, D)

noted = []
model.drop_emb.register_forward_hook(lambda part, given, returned: noted.append(returned))
theirs = gptlab.SlidingWindows(gptlab.encode_documents(documents[:50], tokenizer), 32)
model(torch.stack([window for window, _ in theirs]))

assert torch.allclose(mine, noted[0])
assert torch.equal(targets, torch.stack([goal for _, goal in theirs]))
print("the same numbers enter the model:", tuple(mine.shape))

# %% [markdown]
# ## Exercises
#
# Open `chapters/ch02_text/exercises.py`, write the functions, and run it:
#
#     python chapters/ch02_text/exercises.py                    # all of them
#     python chapters/ch02_text/exercises.py text.merge_pair    # one
#
# | name | what to write |
# |---|---|
# | `text.shape_of_embeddings` | predict a shape |
# | `text.count_pairs` | how often each pair of ids occurs |
# | `text.merge_pair` | join a pair of ids everywhere |
# | `text.encode` | a word's ids, from a list of merges |
# | `text.decode` | the text of ids |
# | `text.windows` | inputs and targets |
#
# Tokens are ids there, and a byte's id is its value. Each answer is checked, and a wrong one gets a hint. In a
# notebook, `gptlab.check` does the same with any function. First the windows from the mistake above, then the right
# ones:

# %%
print(gptlab.check("text.windows", shorter_windows))

# %%
print(gptlab.check("text.windows", windows))

# %% [markdown]
# ## What to take along
#
# - A tokenizer turns text into ids and back. With bytes at the bottom, nothing is unknown: not a name, not Chinese, not
#   an emoji.
# - Byte pair encoding joins the most frequent pair of neighbours, again and again, inside of words. Encoding repeats
#   the merges in the order in which they were learned.
# - Join the bytes before you decode: a token can be a part of a character.
# - A vocabulary fits the text that it was learned from. For other text, sequences become longer and a model slower.
# - The targets are the inputs, one token further on. A result that is too good means that the answers were in the
#   question.
# - What enters the model is a row of the token table plus a row of the position table, for every token.
#
# Chapter 3 lets the tokens look at each other: attention.
