"""The command ``fastact``. No call of a ufunc or a layer imports anything from here."""
