"""`robustness`: how a classifier's answers hold when photographs are made worse."""
