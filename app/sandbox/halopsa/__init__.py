"""A server which behaves on the wire as HaloPSA does: in memory, several tenants in one process, offline."""
