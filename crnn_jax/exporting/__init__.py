"""A trained model for other runtimes, each export compared with the model itself."""
