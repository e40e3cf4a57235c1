"""Restarts under load, and ends that nobody has wished for: no request may be lost. Run from a checkout, as root.

    python -m tests.restarts                                        everything: 10 minutes at most
    python -m tests.restarts --requests 5000 socket stops           all cases whose names begin so

    cases           restarts under load: a row for each
    ends            TERM, TERM twice, clients that are killed
    lab             servers, proxies and the load, as processes; load, app: what they run
    namespaces      the machines behind HAProxy: network namespaces of the test's own, which need root

A command, and not collected by pytest, because it needs minutes, HAProxy and nginx. They run the files of deploy/. The
tables that it prints are in docs/deployment/restarts.md, which says what they mean. Exit status 1 if anything is not as
it must be; rows that show what is not advised must show what then happens.
"""
