"""Many runs: compared, ablated, swept, tuned."""
