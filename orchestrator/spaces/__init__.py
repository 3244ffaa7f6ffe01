"""Search spaces: one file per space, named after it, loaded by that name."""
