"""Data and models that are new here."""
