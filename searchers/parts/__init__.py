"""Components that several searchers share; no methods by themselves."""
