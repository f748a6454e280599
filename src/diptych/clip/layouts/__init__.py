"""How others lay out CLIP's weights: their names, and their configs as ours."""
