"""Each metric as a `torchmetrics.Metric`: update, merge, compute."""
