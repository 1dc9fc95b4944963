"""Tickets in step: relationships, links, what was decided and why."""
