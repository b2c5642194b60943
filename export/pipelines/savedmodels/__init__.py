"""SavedModels and Keras files become verified models of the repository, without a spec."""
