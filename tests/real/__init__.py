"""Real faults on real servers: ``python -m tests.real``. Each run takes about a minute, so pytest collects none.

One scenario is one entry in ``catalogue.py``; ``runner.py`` feeds a topic, lets two daemons ingest it, causes the
fault at a random moment, ends it, and has the independent checker (tests/e2e/checker.py) count.
"""
