"""Odd traffic: counts of each minute, kept for some weeks, and judged by what is usual."""
