"""Benchmarks on real servers, each beside a bare consumer of the same run: ``python -m bench --help``."""
