"""What a ufunc does with the arguments of a call, before the driver runs."""
