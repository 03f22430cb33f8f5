"""What every generator does as a Lightning module."""
