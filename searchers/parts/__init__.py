"""What several searchers hold or build on; no methods by themselves."""
