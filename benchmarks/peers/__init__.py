"""The same work done by other programs that make each step durable; optional, in an environment of its own."""
