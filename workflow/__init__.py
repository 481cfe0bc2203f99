"""What happens next: the pure core. No clock, no randomness, no threads, no input or output."""
