"""Probing for facts: what a masked language model answers to cloze sentences (LAMA, LAMA-UHN, a graph of your own)."""
