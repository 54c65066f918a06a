"""Chunk ingestion: text chunks get codes and vectors, become rows exactly once, and together one search index."""
