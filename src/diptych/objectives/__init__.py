"""Training objectives, one file each: head, draw, loss."""
