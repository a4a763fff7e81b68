"""Proof: what is stored is what was recorded, and can be made again."""
