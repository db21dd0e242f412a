"""The small models that ship with the package; what they are and what they miss is in CARD.md beside this file."""
