"""Bottom-up attention: Faster R-CNN on ResNet C4, trained on Visual Genome. Anderson et al., arXiv:1707.07998."""
