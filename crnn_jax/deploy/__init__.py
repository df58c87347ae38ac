"""Taking a trained model elsewhere: the model file and the Recognizer that reads with it."""
