"""What the supervisor of a conversation is made of, besides the pure core."""
