"""From the manifest to batches: audio reading, cleaning, splits, input features, the feature cache, padding."""
