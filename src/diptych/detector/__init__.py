"""Detectors: bottom-up attention as it was released, and one's own, trained on the objects of a table."""
