"""What a person removes, on record."""
