"""What is wrong with a manifest's rows, as far as sound and texts tell: signals, and decisions by them."""
