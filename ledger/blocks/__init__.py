"""Blocks: the form in which the database stores the entries of one transaction.

``docs/format.md`` describes it, section "Blocks". Pure: no database, no clock.
"""
