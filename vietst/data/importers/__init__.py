"""Manifests from what others keep corpora in: Kaldi folders, NeMo's JSON lines, tables, `datasets`."""
