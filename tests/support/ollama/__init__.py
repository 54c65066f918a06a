"""A language model's server for tests, faithful where a client could tell: protocol, slots, queue, errors and time.

Answers are made of the prompt's digest, so that every server gives the same ones. What a test tells the server, and
asks it afterwards, goes by paths below `/script`, which no real server has.
"""
