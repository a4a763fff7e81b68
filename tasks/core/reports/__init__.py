"""What people and scripts read."""
