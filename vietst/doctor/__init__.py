"""What is wrong with an installation or a published model, and what to do about it."""
