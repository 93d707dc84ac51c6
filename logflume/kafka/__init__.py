"""The Kafka seam: the only package that imports confluent_kafka.

``consumer.Source`` reads, ``topics.Topics`` asks about topics, ``embedded`` is a broker for demos and
quick tests. What they hand over are ``model.Batch`` and the events of ``events``.
"""
