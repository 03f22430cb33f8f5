"""The networks: from a hub id, a folder or a description, with adapters or without."""
