"""How messages come in and replies go out: the HTTP door, the feed of live events, a client for programs and people."""
