"""Parts that several spaces share: the choice itself, operations, cells, chains of blocks, notation, costs of operations."""
