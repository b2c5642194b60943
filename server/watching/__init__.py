"""What outlives one tritonserver: its supervisor, and the page that says how it is."""
