"""What our HTTP servers have in common: how they listen and end, read JSON, take settings and watch a store."""
