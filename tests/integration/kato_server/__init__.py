"""The KATO session server over a real socket, as a process of its own."""
