"""Data: parts, batches, and loaders by name."""
