"""The whole actor system under a seeded scheduler and a virtual clock; `python -m simulation` runs it."""
