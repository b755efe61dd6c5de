"""In the place of PyTorch, for the tests: it is not there, whatever is installed."""

raise ModuleNotFoundError("there is no torch in these tests", name="torch")
