"""abtest against its peers and against the limit of the machine, always as ratios within one run.

`python -m benchmarks` runs everything; `python -m benchmarks stats peers` the named parts. A peer that does not install
here is skipped, with the reason.
"""
