"""Transfer: rates with their counts, intervals, paired tests, gradient alignment."""
