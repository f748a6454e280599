"""Layers that more than one room can use; plain arguments, no config."""
