"""What a trained model is worth: scores of its predictions."""
