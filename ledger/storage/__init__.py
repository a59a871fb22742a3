"""PostgreSQL: the only place that imports asyncpg.

One module per table or workflow, each with its SQL next to the code that runs it. Only the
package ``entries`` knows the table of the entries.
Callers get the errors of ledger.errors, never asyncpg's.
"""
