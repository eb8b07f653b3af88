"""Implementations of a convolution, one a module, and which of them a layer has."""
