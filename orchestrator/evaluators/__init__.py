"""Evaluators of architectures: shared weights, training from scratch, tables. None of them knows Ray."""
