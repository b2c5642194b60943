"""The command `serve`: a server, or several behind a gateway, from the start to the end."""
