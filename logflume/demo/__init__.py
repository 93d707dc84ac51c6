"""``logflume demo``: the real daemon on an embedded broker and a local directory, and an account of what it did."""
