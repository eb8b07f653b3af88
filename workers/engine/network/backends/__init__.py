"""Implementations of a convolution, one a module."""
