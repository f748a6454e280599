"""What a trained model is asked to do, one file a task."""
