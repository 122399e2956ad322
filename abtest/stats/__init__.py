"""Pure mathematics: numbers in, numbers out. The list of functions is in docs/reference."""
