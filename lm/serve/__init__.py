"""Serving: an engine that writes the texts of many requests at once, and its server.

requests   what the engine is asked for, and the events that answer
engine     one thread: takes requests, reads prompts, writes tokens, sends them
batch      the slots of an engine; `rows` are requests on their way through it
reading    prompts into caches, in chunks; `prefixes` keeps those that come again
guesses    tokens ahead, to be checked at once: from the text, or by a draft model
"""
