"""Reading images with a trained model, and evaluating the model over sources of them."""
