"""The rules on requests that the gateway enforces: Lua for HAProxy, and the table that they read."""
