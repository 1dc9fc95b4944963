"""Who we are: the organisations whose data is kept apart."""
