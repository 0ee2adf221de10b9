"""The run: plan, encode, calibrate, judge."""
