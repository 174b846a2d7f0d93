"""Satellite image in, masks and map features out."""

__version__ = "0.1.0"
