"""Configuration: from the sections of a file or a command line to a problem that can be searched."""
