"""Bytes that nobody would think of, at everything that reads what a client, a proxy or a handler gives us.

A development tool, run from the checkout: `python -m fuzz`. README.md says how, and what to do with what it finds.

    targets     what can be fuzzed, by name: a target is a function of bytes that raises if something is wrong
    requests    wire: bytes into requests, without I/O; chunks: chunked bodies
    proxies     proxy, forwarded: who the client is, as somebody says
    serving     connection: a whole connection, and a handler
    responses   response: what handlers return, read back by a client
    choices     bytes into decisions; clients: what is sent, and what is read
    seeds       inputs to begin with; tokens.dict: words to put into them
"""
