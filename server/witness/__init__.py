"""A witness: cosigns checkpoints of other people's logs if they only grow (C2SP tlog-witness).

It needs no PostgreSQL, only a directory with its keys, its list of logs and the newest checkpoint
of each log.
"""
