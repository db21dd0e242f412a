"""Trains the embedded models on drawn scenes; one trainer a model, each goes on from its own checkpoint."""
