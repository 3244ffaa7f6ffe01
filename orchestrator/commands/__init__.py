"""The commands of the command line: a file for each, or for some that belong together."""
