"""What a server finds: Triton's installation, a model repository, free ports, the machine's cores."""
