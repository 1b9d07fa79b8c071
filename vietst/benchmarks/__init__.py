"""Measurements of what the project claims about its speed; `scripts/benchmark.py` runs them."""
