"""The architectures, what they share (encode once, decode every target), and small untrained stand-ins."""
