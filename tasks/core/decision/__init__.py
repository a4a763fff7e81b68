"""Evidence in, decision out: pure functions."""
