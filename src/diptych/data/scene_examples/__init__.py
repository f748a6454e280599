"""What can be asked of the built-in scenes, as examples of each task."""
