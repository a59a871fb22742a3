"""The entries of all trails in the database: the only code that knows the table and its partitions.

Everything else asks for entries: by place, by seq, in ranges, by filter, as a stream. That they
are stored in blocks, with a partition for each month, shows nowhere else but in migrations/.
"""
