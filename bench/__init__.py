"""The lab: the concurrency models under real HTTP load, and what the figures say. Run from a checkout: python -m bench

    compare          the matrix: every model under every load, in interleaved rounds
      server           the server under test, a process of its own
      models           which models there are, and how each gets the same capacity
      load, wrk        the two load generators, processes of their own
      result           what a generator reports
      children         starting processes on a core, and ending them whatever happens
      cells            runs, and the figures that several runs add up to
      progress         how far it is
      machine          what has to be known of the machine, and who else was using it
      table, picture, verdict    figures as a table, as a picture, in sentences
    waiting          six ways in which threads can wait on one listen socket: a lecture
      waiting_server   the server that uses one of them
      waiting_lab      the comparison of the six
      waiting_report   its tables and sentences

Question, method and limits: README.md in this folder.
"""
