"""Measurements, one suite a file. Each writes one JSON file; README's tables are made from those files."""
