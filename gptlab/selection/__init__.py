"""Choosing instruction data: which entries are worth training on."""
