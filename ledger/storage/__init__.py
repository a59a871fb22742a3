"""PostgreSQL: the only place that imports asyncpg.

One module per table or flow, each with its SQL beside the code that runs it.
Callers see the error tree of ledger.errors, never asyncpg's.
"""
