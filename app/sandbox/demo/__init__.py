"""The demo: two organisations, a busy day, and everything that can go wrong with a hub between them."""
