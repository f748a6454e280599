"""How others lay out UNITER's weights."""
