"""What a search trades off: one file per objective, named after it, loaded by that name."""
