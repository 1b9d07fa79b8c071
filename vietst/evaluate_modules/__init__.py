"""Modules for Hugging Face's `evaluate`: `evaluate.load("…/evaluate_modules/<name>")`."""
