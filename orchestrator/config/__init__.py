"""An experiment as a file or a command line says it, and how it becomes a problem to search."""
