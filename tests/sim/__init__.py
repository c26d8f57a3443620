"""The deterministic simulator: production state machines on a simulated clock, network, memory."""
