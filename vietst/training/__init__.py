"""A training run: arguments for transformers, trainer, callbacks, checkpoints, and what puts them together."""
