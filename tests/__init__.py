"""Tests of logflume, and the servers they run on."""
