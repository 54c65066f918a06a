"""A real two-node Kubernetes on one Linux machine without Docker, because the operator must be seen on a real one.

`python -m tests.cluster up` makes it, `down` removes it to the last trace. Every process lives in a namespace of a node
of its own: the machine's routes, firewall, mounts and settings stay as they are, and pods have no way out.
"""
