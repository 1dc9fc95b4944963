"""Outside systems on real sockets: servers that answer as the originals do, with a journal and scripted faults."""
