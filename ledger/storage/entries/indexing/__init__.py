"""The rows of the search index (docs/format.md, "Search index"): built, looked up, compared."""
