"""Five experiments: `crowd`, `fairness`, `loop`, `cores`, `price`; `study` runs them, `trial` is what they are made of.

`leader_followers` is a mechanism of parking to compare with; `picture` draws who was served.
"""
