"""All that talks to a Prefect server."""
