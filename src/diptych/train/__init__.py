"""The one training loop of all rooms, and what it is made of."""
