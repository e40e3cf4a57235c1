"""The other servers, each as well set up as it can be: `server` runs those in Python, and `apps` is what they serve.

`stdlib` is http.server with threads; `lisp` are Hunchentoot and hunchentoot-recycling-taskmaster (lisp_server.lisp).
"""
