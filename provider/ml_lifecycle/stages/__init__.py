"""What each stage does: a job in, a contract out. Command line, operators and remote runners all call these."""
