"""The entries of all trails in the database: the only code that knows the table and its partitions.

Everything else asks for entries: by place, by seq, in ranges, by filter, as a stream. How they are
stored, one row for each in a partition for each month, is nowhere else to be seen but in
migrations/.
"""
