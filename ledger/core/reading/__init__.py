"""Reading a trail wherever its entries are: in the database, or in the archive."""
