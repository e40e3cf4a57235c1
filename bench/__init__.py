"""The lab: the concurrency models under real HTTP load, and what the figures say. Run from a checkout: python -m bench

    compare          the matrix: every model under every load, in interleaved rounds
      server           the server under test, a process of its own
      models           which models there are, and how each gets the same capacity
      load, wrk        the two load generators, processes of their own
      result           what a generator reports
      children         starting processes on a core, and ending them whatever happens
      processes        what the system tells of a server: CPU, threads, switches, memory
      cells            runs, and the figures that several runs add up to
      progress         how far it is
      machine          what has to be known of the machine, and who else was using it
      table, picture   figures as a table, and as a picture
      verdict          figures in sentences; verdict_scaling: those on parking, the loop and processes
    scale            more connections than threads, more cores than the GIL lets a process use: five experiments
      scale_crowd, scale_fairness, scale_loop, scale_cores, scale_price    one each
      trial            what they are made of: a server, loads, findings
      crowd, flood     clients that are idle, and clients that never wait for an answer
      leader_followers a mechanism of parking to compare with
      scale_picture    who was served, drawn
    speed            what a request costs, ours and others', under wrk
      speed_subjects   who takes part; speed_run: one run; speed_claims: what is claimed, and whether it holds
      speed_probe      the least that a threaded server can do: the measure of the machine
      speed_transfer   100 MB, up and down
      peers_server     the other servers, each as well set up as it can be; peers_apps: what they serve
    threads          how threads move what a request costs, and the slowest answers: one knob at a time
      threads_plan     the knobs; threads_run: one run; threads_report: tables, sentences, and a page made of them
    regress          is one commit slower than another
      regress_sides    the code of both
    micro            the steps of a request, without a network
      micro_operations the steps, also for profilers
    hostile          clients that try to hold every thread
      hostile_lab      the comparison of the models
    waiting          six ways in which threads can wait on one listen socket: a lecture
      waiting_server   the server that uses one of them
      waiting_lab      the comparison of the six
      waiting_report   its tables and sentences

Question, method and limits: README.md in this folder.
"""
