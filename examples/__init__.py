"""Examples of what can be built on the orchestrator."""
