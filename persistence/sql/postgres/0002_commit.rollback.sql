DROP FUNCTION orchestrator_commit;
