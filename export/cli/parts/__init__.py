"""What the commands that publish models are made of: options by kind of model, jobs, the state of models."""
