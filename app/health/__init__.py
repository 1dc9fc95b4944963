"""Is it alive, can it work, is it keeping up."""
