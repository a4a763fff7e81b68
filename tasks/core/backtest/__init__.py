"""Replay a model's own history under several policies, before one is trusted. Nothing here touches the store."""
