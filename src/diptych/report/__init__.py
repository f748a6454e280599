"""Curves, tables and picture grids in one self-contained HTML page."""
