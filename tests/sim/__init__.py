"""The real worker, made deterministic: one process, one clock, and a say in every effect it has.

``Host`` runs ``logflume.daemon.worker.Worker`` with everything it owns (slots, finisher, spool, commit, finish)
over the real ``LocalStore``; only Kafka's client, threads and clocks are played. Each call to the store,
each write to the spool and each commit to Kafka is an *effect*: a number, and a place where a test may
kill, pause, or lie. ``tests/crash`` visits every effect; ``tests/sim`` walks at random.
"""
