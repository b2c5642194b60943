"""The page: recognition in a browser, on this machine, by a server that the browser never sees."""
