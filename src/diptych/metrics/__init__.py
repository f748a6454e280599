"""Small pure functions from predictions to numbers."""
