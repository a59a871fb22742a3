"""The archive of a trail: a static log in a folder or in locked object storage."""
