"""From files to examples and batches for generators."""
