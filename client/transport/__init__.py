"""How questions get to a server: addresses, gRPC and HTTP connections, streams, shared memory."""
