"""Every webhook, before anyone understands it."""
