"""The search itself: the loop, its archive, its budget, its records. Knows no Ray."""
