"""What a user holds: the blocking client, the one for asyncio, and the streams of text that they open."""
