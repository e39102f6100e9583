"""Scores by a named protocol, and the result files that hold them."""
