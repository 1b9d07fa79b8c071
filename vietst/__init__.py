"""vietst: fine-tune Whisper and wav2vec2 + mBART-50 on Vietnamese speech with English words inside.

The data flows through the packages in this order, and imports run the same way, downwards only:
`constants`, `errors` → `text`, `config`, `runtime` and their neighbours → `data` (manifest, splits, feature
cache, batches) → `models` → `evaluation` → `inference` → `audit` → `hub` → `training` → `doctor`, `demo`,
`export`, `benchmarks`. The scripts in `scripts/` are one page each.
This file imports nothing, so that `import vietst` is instant.
"""

__version__ = "0.1.0"
