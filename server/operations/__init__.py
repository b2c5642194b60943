"""What an operator does beside serving: look over a machine."""
