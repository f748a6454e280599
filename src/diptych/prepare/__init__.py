"""What is made of a table before training on it: regions and their tags."""
