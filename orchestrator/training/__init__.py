"""Training of one network: recipes of the papers as data, and the mechanisms that they are put together from."""
