"""What the process has: memory of large results, threads, locks, and the floating-point flags."""
