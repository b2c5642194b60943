"""What every part of the export may use: errors and exit codes, wording, versions, devices, packages."""
