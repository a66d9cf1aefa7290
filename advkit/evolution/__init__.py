"""Architectures searched by evolution: selection and variation, and what measures and spreads the candidates."""
