"""Bytes to batches: sources, cleaning, tokenizers, packing, and the loader."""
