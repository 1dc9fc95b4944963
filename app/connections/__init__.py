"""Whom we talk to, with what secret, and in what health."""
