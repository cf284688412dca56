"""Building instruction data: from a corpus, about the model itself, and by asking a language model."""
