"""Registered pipelines: their record, their bytes, how they are loaded."""
