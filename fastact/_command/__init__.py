"""The command ``fastact``. Nothing here is imported by a call of a ufunc or a layer."""
