"""What a server bears: processes that are killed, sequences that never end."""
