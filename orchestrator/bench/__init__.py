"""`paretoray bench`: searchers at equal cost, on tables or as whole searches."""
