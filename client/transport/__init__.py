"""How questions get to a server: their form, addresses, gRPC and HTTP connections, shared memory."""
