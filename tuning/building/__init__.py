"""Building candidates, in processes of this machine or of others."""
