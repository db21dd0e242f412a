"""A world of drawn catalogue pictures in which every box, mask and caption is known exactly."""
