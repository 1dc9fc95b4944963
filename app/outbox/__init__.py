"""Every write we owe the outside world: a row first, then the call."""
