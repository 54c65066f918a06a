"""The part of the operator that touches the world: clocks, sockets, the API server. Decisions are core's."""
