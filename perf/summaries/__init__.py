"""What raw results say in numbers: medians, ratios and rows, for tables of commands and figures of reports.

A module for each kind of result that both read. Nothing here measures or draws.
"""
