"""Export of trained networks: plain source, weights, runtimes' formats and a model card, for use without paretoray."""
