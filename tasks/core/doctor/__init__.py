"""What is well with a deployment and its models, and what to do about what is not."""
