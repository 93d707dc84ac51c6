"""logflume: log records from Kafka into complete hourly files on HDFS, exactly once."""

__version__ = "0.1.0"
