"""Architectures searched by evolution: selection, and what breeds, measures and spreads its candidates."""
