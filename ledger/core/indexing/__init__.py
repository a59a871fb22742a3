"""The search index: built behind the appends, compared with the entries, rebuilt."""
