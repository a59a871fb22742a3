"""A witness: cosigns checkpoints of other people's logs that never go back (C2SP tlog-witness).

It needs no database and nothing of the ledger: a directory with its keys, the
logs it knows and the newest checkpoint of each.
"""
