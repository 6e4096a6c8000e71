"""Serving: an engine that writes the texts of many requests at once, and its server.

requests   what the engine is asked for, and the events that answer
engine     one thread and one batch of slots: reads prompts, writes tokens
reading    prompts into caches, in chunks; `prefixes` keeps those that come again
"""
