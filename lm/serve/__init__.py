"""Serving: an engine that writes the texts of many requests at once, and its server.

requests   what the engine is asked for, and the events that answer
engine     one thread: takes requests, reads prompts, writes tokens, sends them
batch      the slots of an engine; `rows` are requests on their way through it
reading    prompts into caches, in chunks; `prefixes` keeps those that come again
guesses    tokens ahead, to be checked at once: from the text, or by a draft model
texts      events to text, in pieces; `jobs` makes requests of what a client wants
constrain  texts held to a JSON schema or a regular expression
service    a model with all that its clients share: limits, keys, metrics
routes/    endpoints, one group a file: adding one is registering it
app        the ASGI application: who may come in, errors, streams; page.html is its page
server     the application on a socket, in a thread
"""
