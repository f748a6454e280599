"""How others lay out the detector's weights and settings."""
