"""Client programs of the matrix: each runs the same checks with one SDK over one transport."""
