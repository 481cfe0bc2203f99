"""What is said: every message of the orchestrator, one file per dialogue; `wire` turns them into bytes."""
