"""What answers a searcher's questions: shared weights, or training from scratch. None of it knows Ray."""
