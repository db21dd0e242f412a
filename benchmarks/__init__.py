"""Measured side by side with what a user would run instead; `make bench` prints and keeps the tables."""
