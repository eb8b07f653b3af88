"""Chaos: renders under fire, and the promise held against what is left of them."""
