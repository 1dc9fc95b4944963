"""What ``make bench`` measures: ratios and counts within one run, never a promise about another machine."""
