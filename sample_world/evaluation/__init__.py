"""Measures the embedded models and the ready recipes on drawn scenes that no training has seen; one file a figure."""
