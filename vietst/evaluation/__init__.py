"""Decoding of a split, scores, result files and charts."""
