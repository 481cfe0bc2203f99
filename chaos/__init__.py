"""A crash test: kills a real daemon at every kind of boundary, starts it again, and checks what became of the work."""
