"""Ray: the connection, replicas of a supernet in actors, searches and trainings as Tune trials."""
