"""TensorFlow Serving's config files become policies of models here."""
