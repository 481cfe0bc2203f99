"""Whether and when to restart. Pure: standard library only, no clock, no randomness, no threads."""
