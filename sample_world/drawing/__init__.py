"""Draws catalogue pictures in which every box, mask, caption and cut-out is known exactly."""
