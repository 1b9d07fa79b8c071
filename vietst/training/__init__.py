"""A training run: transformers' arguments, trainer, callbacks, checkpoints, and what puts them together."""
