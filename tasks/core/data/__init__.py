"""What arrives: files, their rows, their labels, their days."""
