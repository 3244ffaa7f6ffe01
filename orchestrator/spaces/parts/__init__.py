"""What several spaces are made of: the choice itself, operations, cells, chains of blocks, notation, costs of operations."""
