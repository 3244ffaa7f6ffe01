"""What `import paretoray` offers: searches, results, callbacks, and components with their settings."""
