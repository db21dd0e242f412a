"""Thin adapters that run one graph: inline in this process, or on Ray Data."""
