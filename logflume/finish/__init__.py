"""Finishing an hour that every partition has closed: plan, merge, reveal, mark (S7).

Any process may do it, and several at once do no harm: each step is a pure function of the ledgers.
"""
