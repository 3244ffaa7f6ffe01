"""A run from end to end in its directory: search, retraining of the front, report."""
