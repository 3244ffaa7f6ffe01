"""The search itself: loop, archive, budget and records, without Ray."""
