"""The real daemon on real servers, judged by a checker that shares no code with it."""
