"""Where it runs: search spaces, objectives, evaluators, Ray and the command line. The one package that knows all others."""
