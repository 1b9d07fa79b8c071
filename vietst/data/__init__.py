"""From the manifest to batches: audio, cleaning, splits, input features, the feature cache, padding."""
