"""Tables of pictures and texts, and the way from a row to a batch."""
