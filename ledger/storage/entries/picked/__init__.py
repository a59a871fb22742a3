"""Some entries of blocks, read from the parts of the columns that hold them."""
