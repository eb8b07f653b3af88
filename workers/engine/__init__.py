"""Neural style transfer as an optimisation; imports torch and nothing of the rest."""
