"""A suite for a person at a terminal: tables, a live board, the self-test."""
