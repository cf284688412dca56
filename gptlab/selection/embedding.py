"""A vector for each text, so that "alike" can be computed: the cosine of the angle between two vectors.

Two ways that download nothing:

- Words that are shared. A text's vector counts its words, the rare ones for more (TF-IDF); a truncated singular value
  decomposition keeps the directions in which the texts differ most, which also brings words together that stand in
  the same texts (latent semantic analysis). Chinese is written without spaces: there a word is each character and each
  pair of neighbouring ones.
- What a GPT of ours makes of a text: its final hidden states, averaged over the text's tokens. All of them share a
  part (Ethayarajh 2019), so that cosines are high, in GPT-2 close to 1, and their order says more than their size.

Whoever has better ones, of a sentence encoder say, gives them to the selections as an array: all of them take any
(entries, dimensions), at any length, of numpy or torch.

Sources: Deerwester et al. 1990 (latent semantic analysis); Ethayarajh 2019, arXiv 1909.00512, section 4.1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import regex
import torch
from torch import Tensor
from tqdm import tqdm

from gptlab.model import GPTModel, evaluation_mode
from gptlab.rouge import CJK, FULL_WIDTH
from gptlab.tokenizer import as_tokenizer

NOISE = 1e-6  # a row that TF-IDF and SVD leave shorter than this has rounding errors for a direction

_PIECES = regex.compile(rf"[{CJK}]+|[^\W{CJK}]+")
_CJK = regex.compile(rf"[{CJK}]")


def embed(
    texts: Sequence[str],
    *,
    model: GPTModel | None = None,
    tokenizer: Any = None,
    dimensions: int = 256,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Return a vector of length 1 for each text, as (texts, dimensions) float32.

    A text in which there is nothing, or nothing that the kept dimensions know, has zeros; it is like no other.

    Args:
        texts: such as the instructions of entries.
        model: read texts with it; it is left in its mode, and no random number is drawn. Without it, TF-IDF and SVD.
        tokenizer: the model's. Texts longer than its context are cut, and a warning says how many.
        dimensions: how many to keep of TF-IDF; they are fewer when there are fewer texts, or fewer words in all. With a
            model they are the model's emb_dim.
        batch_size: texts that the model reads at once; it changes nothing but time and memory.
        seed: of the randomised decomposition.
        progress: show a bar while the model reads.

    Raises:
        ValueError: there are no texts, one is not a string, dimensions or batch_size is below 1, no text has a word, or
            only one of model and tokenizer is given.
        ImportError: scikit-learn is not installed.

    >>> one, two, other = embed(["The mill grinds corn.", "Corn for the mill!", "黑猫坐下"])
    >>> bool(one @ two > 0.5), bool(abs(one @ other) < 0.01)
    (True, True)
    """
    for name, value in (("dimensions", dimensions), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value!r}")
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"texts must be several strings, at least one, got {texts!r}")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {number} must be a string, got {text!r}")
    if (model is None) != (tokenizer is None):
        raise ValueError("a model reads texts by its tokenizer: give both or none")
    if model is None:
        return _by_words(texts, dimensions, seed)
    return _by_model(texts, model, tokenizer, batch_size, progress)


def pieces(text: str) -> list[str]:
    """Return what `embed` counts in a text: words in lower case; of Chinese, each character and each pair of them.

    A text of signs alone has the signs.

    >>> pieces("Say 你好吗 in English!")
    ['say', '你', '好', '吗', '你好', '好吗', 'in', 'english']
    """
    text = text.translate(FULL_WIDTH).lower()
    found = []
    for piece in _PIECES.findall(text):
        if _CJK.match(piece):
            found += [*piece, *map("".join, pairwise(piece))]
        else:
            found.append(piece)
    return found or [sign for sign in text if not sign.isspace()]


def check_embeddings(embeddings: Any, n: int | None = None) -> np.ndarray:
    """Return embeddings as an array (entries, dimensions) of float32, or of float64 if that is what came.

    Args:
        embeddings: an array, a torch tensor, or lists of numbers.
        n: how many entries there are; None asks for none in particular.

    Raises:
        ValueError: they are not numbers in two dimensions, not n, or not finite.
    """
    if isinstance(embeddings, Tensor):
        embeddings = embeddings.detach().cpu()
        embeddings = (embeddings if embeddings.dtype == torch.float64 else embeddings.float()).numpy()
    try:
        array = np.asarray(embeddings)
        array = array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)
    except (TypeError, ValueError):
        raise ValueError("embeddings must be numbers, as many for each entry, (entries, dimensions)") from None
    if array.ndim != 2 or not array.size:
        raise ValueError(f"embeddings must be (entries, dimensions), got shape {array.shape}")
    if n is not None and len(array) != n:
        raise ValueError(f"{n} entries need as many embeddings, got {len(array)}")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(f"embeddings must be finite; that of entry {int(finite.argmin())} is not")
    return array


def unit_rows(embeddings: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Return a copy whose rows have length 1, so that a product of two is their cosine; a row of zeros stays zeros.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    largest = np.abs(embeddings).max(axis=1, keepdims=True)
    rows = embeddings.astype(np.result_type(embeddings, dtype))  # a copy
    rows /= np.where(largest > 0, largest, 1)  # no square of these is too large or too small
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1)
    return rows.astype(dtype, copy=False)


def _by_words(texts: Sequence[str], dimensions: int, seed: int) -> np.ndarray:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.utils.extmath import randomized_svd
    except ImportError:
        raise ImportError('embed without a model needs scikit-learn: pip install "gptlab[data]"') from None
    if not any(map(pieces, texts)):
        raise ValueError("no text has a word in it")
    counts = TfidfVectorizer(analyzer=pieces, sublinear_tf=True).fit_transform(texts)  # (texts, words), sparse
    left, strengths, _ = randomized_svd(counts, min(dimensions, *counts.shape), n_iter=5, random_state=seed)
    rows = left * strengths  # what TruncatedSVD returns, whose n_iter this is
    rows[np.linalg.norm(rows, axis=1) < NOISE] = 0
    return unit_rows(rows)


def _by_model(texts: Sequence[str], model: GPTModel, tokenizer: Any, batch_size: int, progress: bool) -> np.ndarray:
    tokenizer, context = as_tokenizer(tokenizer), model.cfg.context_length
    encoded = [tokenizer.encode_ordinary(text) for text in texts]
    too_long = sum(len(ids) > context for ids in encoded)
    if too_long:
        warnings.warn(f"{too_long} of {len(texts)} texts were cut to the context of {context} tokens", stacklevel=3)
    encoded = [ids[:context] for ids in encoded]
    means = np.zeros((len(texts), model.cfg.emb_dim), np.float32)
    order = sorted((number for number, ids in enumerate(encoded) if ids), key=lambda number: len(encoded[number]))
    bar = tqdm(total=len(order), desc="embedding", disable=not progress)
    with torch.no_grad(), evaluation_mode(model), bar:
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            means[numbers] = _mean_features(model, [encoded[number] for number in numbers])
            bar.update(len(numbers))
    return unit_rows(means)


def _mean_features(model: GPTModel, batch: list[list[int]]) -> np.ndarray:
    """Return the mean of each text's final hidden states, (B, D).

    Padding stands at the right, where under the causal mask no token of the text sees it.
    """
    lengths = torch.tensor([len(ids) for ids in batch])
    ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = torch.tensor(text)
    device = next(model.parameters()).device
    features = model.forward_embeddings(model.embed(ids.to(device))).float().cpu()  # (B, T, D)
    inside = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)  # (B, T)
    return (features.masked_fill(~inside.unsqueeze(2), 0).sum(dim=1) / lengths.unsqueeze(1)).numpy()
