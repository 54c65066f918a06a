"""KATO hierarchical learning: text becomes token chunks, chunks patterns, and patterns patterns of patterns."""
