"""Python API behind `import paretoray`: searches, results, callbacks, and components with their settings."""
