"""UNITER: regions and words through one Transformer. Chen et al. 2020, arXiv:1909.11740."""
