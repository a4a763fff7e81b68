"""The input schema of a version, and what satisfies it."""
