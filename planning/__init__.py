"""How a plan is thought up, and checked."""
