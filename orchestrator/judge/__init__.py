"""The judge: every measurement of a search as a noisy observation of one quantity, and the front that follows from them."""
