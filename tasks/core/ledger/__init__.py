"""The history: events, what each does to the state, the lease, signatures."""
