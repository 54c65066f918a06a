"""Our own KATO-compatible session server: the same protocol over any pattern store, sessions truly isolated.

Every defect of the original that a client could meet is mended here, everything else answers as it does; what is
added (whole patterns, guards, marks, short answers, lists) is advertised in `GET /status` and can be switched off.
"""
