"""The original's HTTP interface over the parts of an IngestRun: the same ids, codes, vectors and rows as a run's.

Its faults are mended: a chunk that got no codes has failed and is not stored, a repeated request inserts nothing, links
are written, and all that is done is counted, also across restarts.
"""
