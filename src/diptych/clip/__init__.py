"""CLIP, arXiv:2103.00020: the model, its inputs, its weights and its recipes."""
