"""The client's side of a cluster: how it is reached, what its runs say, and how that is shown to a person."""
