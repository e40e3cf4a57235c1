"""The frame of the lab: cells, blocks, records, and what is made of them. The experiments themselves: `bench.presets`.

    record      what is measured: a cell, one run of it, and all runs of a folder
    metrics     the figures of a run that can be compared: unit, direction
    gates       what makes a figure unfit to be compared with others
    preset      what an experiment has to say of itself: its cells, one run, its figures, its sentences
    run         `bench run`: blocks in a shuffled order, kept as they come, resumed where they stopped
    report      `bench report`: one HTML file from what has been kept
      account     all that is said of a folder; trust: how far it can be believed
      tables      its table, for a terminal and for Markdown
      page        the HTML; page_style: how it looks
    compare     `bench compare A B`: two folders, cell by cell
      comparison  ratios and verdicts
      ranking     whether both put the subjects in the same order
      statistics  how sure a ratio is
"""
